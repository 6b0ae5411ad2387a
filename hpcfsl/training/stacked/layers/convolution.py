"""Convolutions: one grouped convolution, in which every client is a group of channels (or several).

Measured on one core against unfolding and a batched product: as fast for LeNet-5's two layers or faster.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(nn.Conv1d)
def conv1d(layer: nn.Conv1d, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, out, length] of inputs [clients * batch, in, length]."""
    return _grouped(layer, functional.conv1d, weights, inputs)


@stacks(nn.Conv2d)
def conv2d(layer: nn.Conv2d, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, out, height, width] of inputs [clients * batch, in, height, width]."""
    return _grouped(layer, functional.conv2d, weights, inputs)


def _grouped(layer: nn.Conv1d | nn.Conv2d, convolve: Callable[..., Tensor], weights: Weights, inputs: Tensor) -> Tensor:
    weight, bias = weights["weight"], weights.get("bias")
    clients, padded = len(weight), layer.padding_mode != "zeros"
    if padded:
        inputs = functional.pad(inputs, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    channels = inputs.reshape(clients, -1, *inputs.shape[1:]).transpose(0, 1).flatten(1, 2)
    found = convolve(
        channels,
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        layer.stride,
        0 if padded else layer.padding,
        layer.dilation,
        clients * layer.groups,
    )
    folded: Tensor = found.unflatten(1, (clients, -1)).transpose(0, 1).flatten(0, 1)
    return folded
