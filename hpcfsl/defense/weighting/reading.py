"""The seam between the two readings of "update weight" (section `[weights]`).

P3 and P5 give a client's target update weight as `w - (learning_rate / c) * loss_information(w)`. Read `w` as the
model weights and the client takes a smaller step the more suspicious it is; read `w` as the client's weight in its
group's sum and suspicion slows how fast that weight changes. Both are implemented, behind this one interface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.settings import Registry, Settings


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """A group's remaining clients, in id order.

    Attributes:
        uploads: First model updates of all the group's clients, float32 [clients, params].
        kept: Which of them remain, bool [clients].
        lengths: Norms of the remaining updates as the aggregator uses them, float64 [survivors].
        samples: Training samples, int64 [survivors].
        loss: Mean training loss over the last epoch, float64 [survivors].
        coefficient: Scaling coefficients `c_i`, float64 [survivors].
        weights: Aggregation weights before this round, float64 [survivors].
        local_rate: Step size of local SGD (`eta_local`).
        server_rate: That of the server half; 0 where it is the same.
        client_size: How many numbers of an update belong to the client half.
    """

    uploads: torch.Tensor
    kept: NDArray[np.bool_]
    lengths: NDArray[np.float64]
    samples: NDArray[np.int64]
    loss: NDArray[np.float64]
    coefficient: NDArray[np.float64]
    weights: NDArray[np.float64]
    local_rate: float
    server_rate: float = 0.0
    client_size: int = 0

    @property
    def updates(self) -> torch.Tensor:
        """First model updates, float32 [survivors, params]; a copy unless everybody remains."""
        return choose_rows(self.uploads, self.kept)


@dataclass(frozen=True, kw_only=True)
class TargetWeights:
    """Step 6, in the form that step 7 needs.

    Attributes:
        loss_information: What the reading took a step along, as a number a client, float64 [survivors].
        before: Weight before the step, float64 [survivors].
        weight: Target update weight, float64 [survivors].
        factors: Factor of each first model update in the second model update, float64 [survivors].
        mass: The group's weight across groups.
        server_factor: What the server half of the second model update is multiplied by besides.
    """

    loss_information: NDArray[np.float64]
    before: NDArray[np.float64]
    weight: NDArray[np.float64]
    factors: NDArray[np.float64]
    mass: float
    server_factor: float = 1.0


class Reading(Settings):
    """One reading of "update weight"."""

    reading: str

    @property
    def keeps_weights(self) -> bool:
        """Whether a client's weight is kept from round to round."""
        return False

    def target_weights(self, group: Survivors) -> TargetWeights:
        """Return the target update weights of a group with at least one remaining client."""
        raise AssertionError("every reading defines target_weights")


def choose_rows(updates: torch.Tensor, chosen: NDArray[np.bool_]) -> torch.Tensor:
    """Return the chosen rows: selected out, never multiplied by 0, which would keep a NaN."""
    return updates if chosen.all() else updates[torch.from_numpy(chosen)]


readings: Registry[Reading] = Registry("weights", key="reading", default="model")
