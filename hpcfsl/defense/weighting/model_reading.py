"""The `model` reading: `w_i` are model weights, and a suspicious client's step is shorter.

After several local steps the loss information is the pseudo-gradient `-u_i / eta_local`, so the client's target update
is `(eta / c_i) * u_i / eta_local`, and steps 6 and 7 become one weighted sum over data shares. Where the server half
has a step size of its own, each half's pseudo-gradient is its update over its own `eta_local`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.weighting.reading import Reading, Survivors, TargetWeights, readings


@readings.register
class ModelReading(Reading):
    """Divide each client's step by its scaling coefficient."""

    reading: Literal["model"] = "model"
    learning_rate: float = Field(0.0, ge=0, le=1000)
    """The method's `eta`; 0 takes the local learning rate (of each half, its own), which makes equal scores plain
    federated averaging."""

    def target_weights(self, group: Survivors) -> TargetWeights:
        """Return factors `p_i * (eta / c_i) / eta_local`, `p_i` the data share over the remaining clients."""
        share = group.samples / group.samples.sum()
        rate = self.learning_rate or group.local_rate
        factors = share * (rate / group.coefficient) / group.local_rate
        return TargetWeights(
            loss_information=_gradient_norms(group),
            before=share,
            weight=factors,
            factors=factors,
            mass=float(group.samples.sum()),
            server_factor=group.local_rate / group.server_rate if self.learning_rate and group.server_rate else 1.0,
        )


def _gradient_norms(group: Survivors) -> NDArray[np.float64]:
    """Return the norm of each pseudo-gradient, float64 [survivors]."""
    if not group.server_rate:
        return group.lengths / group.local_rate
    norms = []
    for update in group.updates:  # one at a time: float64 copies of all would take twice the memory of the uploads
        halves = (update[: group.client_size].double(), update[group.client_size :].double())
        client, server = (float(half.square().sum()) for half in halves)
        norms.append((client / group.local_rate**2 + server / group.server_rate**2) ** 0.5)
    return np.array(norms)
