"""How many floating-point operations training a client takes, counted from the model's layers.

A multiplication and an addition are two operations. Counted are matrix products, convolutions and recurrent cells: once
forward, once for the gradient of the weights, and once more for the gradient of the layer's input, which the first
layer with parameters does not need. Activations, pooling, dropout, losses and the update itself are not counted; they
are what an efficiency below 100 % is made of. The count is that of the plain algorithm, whatever an engine really
computes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_FREE = (nn.Embedding, nn.LayerNorm, nn.GroupNorm)  # parameters, but no product of matrices


@dataclass(frozen=True, kw_only=True)
class LayerFlops:
    """What one layer costs for one sample.

    Attributes:
        name: The layer's name in the module.
        forward: Operations of its products, forward.
        training: Operations forward and backward together.
    """

    name: str
    forward: int
    training: int


def count_layers(module: nn.Module, sample: Tensor) -> list[LayerFlops]:
    """Return the cost of each layer that multiplies matrices, in the order they run.

    Args:
        module: Takes a batch to logits; it is copied, never changed.
        sample: A batch of one sample.

    Raises:
        ValueError: A layer with parameters is of a kind that this module cannot count.
    """
    module = copy.deepcopy(module).eval()
    calls: list[tuple[str, nn.Module, Tensor, Tensor]] = []
    for name, layer in module.named_modules():
        if any(True for _ in layer.parameters(recurse=False)):
            layer.register_forward_hook(_remember(calls, name))
    with torch.no_grad():
        module(sample)
    counted = []
    for place, (name, layer, inputs, outputs) in enumerate(calls):
        forward = _forward_flops(name, layer, inputs, outputs)
        if forward:
            counted.append(LayerFlops(name=name, forward=forward, training=forward * (2 if place == 0 else 3)))
    return counted


def training_flops(module: nn.Module, sample: Tensor) -> int:
    """Return the operations that training on one sample takes, forward and backward."""
    return sum(layer.training for layer in count_layers(module, sample))


def _remember(calls: list[tuple[str, nn.Module, Tensor, Tensor]], name: str) -> Callable[..., None]:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        calls.append((name, layer, inputs[0], outputs[0] if isinstance(outputs, tuple) else outputs))

    return hook


def _forward_flops(name: str, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return 2 * outputs.numel() * layer.in_features
    if isinstance(layer, _CONVOLUTIONS):
        return 2 * outputs.numel() * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
    if isinstance(layer, nn.GRU | nn.LSTM | nn.RNN):
        return _recurrent_flops(layer, inputs)
    if isinstance(layer, _FREE):
        return 0
    raise ValueError(f"cannot count the operations of layer {name!r}, a {type(layer).__name__}")


def _recurrent_flops(layer: nn.GRU | nn.LSTM | nn.RNN, inputs: Tensor) -> int:
    """Every weight matrix of a recurrent layer is multiplied once with the vector of each position."""
    positions = inputs.numel() // inputs.shape[-1]
    matrices = [weight for name, weight in layer.named_parameters() if name.startswith("weight_")]
    return 2 * positions * sum(weight.numel() for weight in matrices)
