"""Which function stands for which class of layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

Weights = Mapping[str, Tensor]
StackedLayer = Callable[..., Any]
"""(layer, weights by name [clients, *shape], *inputs, **options) -> outputs"""

_LAYERS: dict[type[nn.Module], tuple[StackedLayer, Callable[[Any], bool]]] = {}


def stacks(
    *kinds: type[nn.Module], unless: Callable[[Any], bool] = lambda layer: False
) -> Callable[[StackedLayer], StackedLayer]:
    """Register a function for classes of layers; `unless` tells the layers of these classes that it cannot run."""

    def register(function: StackedLayer) -> StackedLayer:
        for kind in kinds:
            _LAYERS[kind] = (function, unless)
        return function

    return register


def stacked_layer(layer: nn.Module) -> StackedLayer | None:
    """Return the function for a layer of exactly a registered class, or None: a subclass may compute anything."""
    function, unless = _LAYERS.get(type(layer), (None, None))
    return None if function is None or unless is None or unless(layer) else function
