"""Taking the server's step. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hpcfsl.aggregate.server.server_optimizer import ServerOptimizer
from hpcfsl.privacy.perturbation import row_norms

# Coordinates of the model handled together: their float64 copies stay in a core's cache.
_PIECE = 65_536


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The global model after a step.

    Attributes:
        weights: Float32 [params].
        moments: What the optimiser keeps, by name, float32 [params] each.
    """

    weights: Tensor
    moments: dict[str, Tensor]


def apply_update(
    rule: ServerOptimizer, weights: Tensor, moments: Mapping[str, Tensor], update: Tensor, *, rate: float, steps: int
) -> Moved | None:
    """Return the model moved along a target update; None where the step would leave the finite numbers.

    Args:
        rule: The server optimiser.
        weights: Global model, float32 [params].
        moments: What the optimiser kept, by name, float32 [params] each; empty before the first step.
        update: Target update, float32 [params], on the device of the weights.
        rate: The server's learning rate.
        steps: Rounds that have moved the model before.
    """
    first = rule.first_moments()
    before = {name: moments[name] if moments else torch.full_like(weights, first[name]) for name in first}
    after = {name: torch.empty_like(weights) for name in first}
    moved = torch.empty_like(weights)
    for piece in (slice(start, start + _PIECE) for start in range(0, len(weights), _PIECE)):
        kept = {name: values[piece].double() for name, values in before.items()}
        moved[piece] = weights[piece].double() + rate * rule.direction(update[piece].double(), kept, steps)
        for name, values in kept.items():
            after[name][piece] = values
    if not all(bool(torch.isfinite(row_norms(vector[None]))) for vector in (moved, *after.values())):
        return None
    return Moved(weights=moved, moments=after)
