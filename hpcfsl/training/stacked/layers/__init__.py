"""Layers with a weight for each client, run on a batch in which the samples of all clients are folded together.

A stacked layer is one function, registered under the class of the layer that it stands for: it takes that layer (for
its shape and options), its parameters by name, [clients, *shape] each, and what the layer takes, where the first
dimension of a tensor is clients * batch, client after client. Layers without parameters need none: they treat
samples alike. To add a kind: one file here with an `@stacks`, and its name in the imports below.
"""

from __future__ import annotations

from hpcfsl.training.stacked.layers import (
    attention,
    convolution,
    embedding,
    linear,
    memory,
    norms,
    positions,
    recurrent,
)
from hpcfsl.training.stacked.layers.registry import StackedLayer, stacked_layer, stacks

__all__ = [
    "StackedLayer",
    "attention",
    "convolution",
    "embedding",
    "linear",
    "memory",
    "norms",
    "positions",
    "recurrent",
    "stacked_layer",
    "stacks",
]
