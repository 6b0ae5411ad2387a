"""Dense layers: one batched matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(nn.Linear)
def linear(layer: nn.Linear, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, ..., out] of inputs [clients * batch, ..., in]."""
    return dense(inputs, weights["weight"], weights.get("bias"))


def dense(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return [n, ..., out] of inputs [n, ..., in], weight [clients, out, in] and bias [clients, out]."""
    rows = inputs.reshape(len(weight), -1, inputs.shape[-1])
    if torch.is_autocast_enabled(inputs.device.type):
        found = _multiply(rows, weight, bias)  # whose derivatives know the types that autocast has chosen
    else:
        found = _Dense.apply(rows, weight, bias)
    return found.view(*inputs.shape[:-1], weight.shape[1])


def _multiply(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    transposed = weight.transpose(1, 2)
    return torch.bmm(rows, transposed) if bias is None else torch.baddbmm(bias[:, None], rows, transposed)


class _Dense(torch.autograd.Function):
    """The product, with the gradient of the weight laid out as the weight is; torch's own comes transposed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return [clients, rows, out] of rows [clients, rows, in]."""
        ctx.save_for_backward(rows, weight)
        ctx.has_bias = bias is not None
        return _multiply(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Return the gradients of the three arguments of `forward`."""
        rows, weight = ctx.saved_tensors
        (outgoing,) = gradients
        to_rows = torch.bmm(outgoing, weight) if ctx.needs_input_grad[0] else None
        to_weight = torch.bmm(outgoing.transpose(1, 2), rows)
        return to_rows, to_weight, outgoing.sum(dim=1) if ctx.has_bias else None
