"""Dense layers: one batched matrix product."""

from __future__ import annotations

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
    transposed = weight.transpose(1, 2)
    found = torch.bmm(rows, transposed) if bias is None else torch.baddbmm(bias[:, None], rows, transposed)
    return found.view(*inputs.shape[:-1], weight.shape[1])
