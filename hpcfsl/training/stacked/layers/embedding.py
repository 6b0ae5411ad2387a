"""Embeddings: one table in which the rows of every client follow each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.training.stacked.layers.registry import Weights, stacks


def _has_options(layer: nn.Embedding) -> bool:
    options = (layer.padding_idx, layer.max_norm)
    return layer.scale_grad_by_freq or layer.sparse or any(option is not None for option in options)


@stacks(nn.Embedding, unless=_has_options)
def embedding(layer: nn.Embedding, weights: Weights, tokens: Tensor) -> Tensor:
    """Return float32 [clients * batch, ..., width] of tokens, int64 [clients * batch, ...]."""
    table = weights["weight"]
    first = torch.arange(len(table), device=tokens.device) * layer.num_embeddings
    rows = tokens.unflatten(0, (len(table), -1)) + first.view(-1, *(1,) * tokens.ndim)
    return functional.embedding(rows.flatten(0, 1), table.flatten(0, 1))
