"""Norms without statistics of the batch: normalised as one batch, then scaled and shifted by each client's own."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(nn.GroupNorm)
def group_norm(layer: nn.GroupNorm, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, channels, ...] of inputs of that shape."""
    return _affine(functional.group_norm(inputs, layer.num_groups, eps=layer.eps), weights, (inputs.ndim - 2) * (1,))


@stacks(nn.InstanceNorm1d, nn.InstanceNorm2d, unless=lambda layer: layer.track_running_stats)
def instance_norm(layer: nn.InstanceNorm1d | nn.InstanceNorm2d, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, channels, ...] of inputs of that shape."""
    return _affine(functional.instance_norm(inputs, eps=layer.eps), weights, (inputs.ndim - 2) * (1,))


@stacks(nn.LayerNorm)
def layer_norm(layer: nn.LayerNorm, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, ...] of inputs of that shape."""
    shape = tuple(layer.normalized_shape)
    return _affine(functional.layer_norm(inputs, shape, eps=layer.eps), weights, (), inputs.ndim - 1 - len(shape))


@stacks(nn.RMSNorm)
def rms_norm(layer: nn.RMSNorm, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, ...] of inputs of that shape."""
    shape = tuple(layer.normalized_shape)
    normed: Tensor = functional.rms_norm(inputs, shape, eps=layer.eps)
    return _affine(normed, weights, (), inputs.ndim - 1 - len(shape))


def _affine(inputs: Tensor, weights: Weights, behind: tuple[int, ...], before: int = 0) -> Tensor:
    """Scale and shift by parameters with `before` dimensions of 1 in front of theirs and `behind` after them."""
    if "weight" not in weights:
        return inputs
    clients = len(weights["weight"])
    own = {name: each.view(clients, 1, *(1,) * before, *each.shape[1:], *behind) for name, each in weights.items()}
    found = inputs.unflatten(0, (clients, -1)) * own["weight"]
    shifted: Tensor = found + own["bias"] if "bias" in own else found
    return shifted.flatten(0, 1)
