"""Multi-head attention (Vaswani et al., 2017): the projections are each client's own, the rest treats samples alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.training.stacked.layers.linear import dense
from hpcfsl.training.stacked.layers.registry import Weights, stacks


def _is_unusual(layer: nn.MultiheadAttention) -> bool:
    plain = layer.batch_first and layer._qkv_same_embed_dim and layer.bias_k is None and not layer.add_zero_attn
    return not plain or layer.dropout > 0


@stacks(nn.MultiheadAttention, unless=_is_unusual)
def multihead_attention(
    layer: nn.MultiheadAttention,
    weights: Weights,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return outputs [n, positions, width] and attention weights, as `torch.nn.MultiheadAttention` does.

    Inputs are [n, positions, width] with n = clients * batch; masks are boolean or added to the scores.
    """
    heads = [each.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for each in _project(weights, query, key, value)]
    mask = _join_masks(attn_mask, key_padding_mask, heads[0])
    shares = None
    if need_weights:
        scores = heads[0] @ heads[1].transpose(-2, -1) / heads[0].shape[-1] ** 0.5
        shares = (scores if mask is None else scores + mask).softmax(dim=-1)
        mixed = shares @ heads[2]
        shares = shares.mean(dim=1) if average_attn_weights else shares
    else:
        mixed = functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
    mixed = mixed.transpose(1, 2).flatten(2)
    return dense(mixed, weights["out_proj.weight"], weights.get("out_proj.bias")), shares


def _project(weights: Weights, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    weight, bias = weights["in_proj_weight"], weights.get("in_proj_bias")
    if query is key and key is value:
        return list(dense(query, weight, bias).chunk(3, dim=-1))
    biases = (None,) * 3 if bias is None else bias.chunk(3, dim=1)
    return [
        dense(each, part, shift)
        for each, part, shift in zip((query, key, value), weight.chunk(3, dim=1), biases, strict=True)
    ]


def _join_masks(attention: Tensor | None, padding: Tensor | None, heads: Tensor) -> Tensor | None:
    """Return what is added to scores [n, heads, positions, positions], or None."""
    found = None
    if attention is not None:
        found = _added(attention, heads.dtype)
        # A mask for each sample and head comes as [n * heads, positions, positions].
        found = found.unflatten(0, (-1, heads.shape[1])) if found.ndim == 3 else found
    if padding is not None:
        absent = _added(padding, heads.dtype)[:, None, None]
        found = absent if found is None else found + absent
    return found


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))
