"""Learned positions: each client adds its own."""

from __future__ import annotations

from torch import Tensor

from hpcfsl.models.transformer import Positions
from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(Positions)
def positions(layer: Positions, weights: Weights, inputs: Tensor) -> Tensor:
    """Return [clients * batch, positions, width] of inputs of that shape."""
    vectors = weights["weight"]
    found: Tensor = inputs.unflatten(0, (len(vectors), -1)) + vectors[:, None]
    return found.flatten(0, 1)
