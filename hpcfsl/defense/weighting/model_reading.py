"""The `model` reading: `w_i` are model weights, and a suspicious client's step is shorter.

After several local steps the loss information is the pseudo-gradient `-u_i / eta_local`, so the client's target update
is `(eta / c_i) * u_i / eta_local`, and steps 6 and 7 become one weighted sum over data shares.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.defense.weighting.reading import Reading, Survivors, TargetWeights, readings


@readings.register
class ModelReading(Reading):
    """Divide each client's step by its scaling coefficient."""

    reading: Literal["model"] = "model"
    learning_rate: float = Field(0.0, ge=0, le=1000)
    """The method's `eta`; 0 takes the local learning rate, which makes equal scores plain federated averaging."""

    def target_weights(self, group: Survivors) -> TargetWeights:
        """Return factors `p_i * (eta / c_i) / eta_local`, `p_i` the data share over the remaining clients."""
        share = group.samples / group.samples.sum()
        rate = self.learning_rate or group.local_rate
        factors = share * (rate / group.coefficient) / group.local_rate
        return TargetWeights(
            loss_information=group.lengths / group.local_rate,
            before=share,
            weight=factors,
            factors=factors,
            mass=float(group.samples.sum()),
        )
