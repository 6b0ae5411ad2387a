"""The `aggregation` reading: `w_i` is the client's weight in its group's sum, kept from round to round.

A client whose update points the way its group goes gains weight, one that opposes it loses weight, and the scaling
coefficient divides both. That has a flaw: a large coefficient damps the *penalty* too, so suspicion protects a client
that should lose weight. `penalty = "undamped"` mends it (ours); `literal` keeps it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.scoring.evidence import Evidence, collect_evidence
from hpcfsl.defense.weighting.reading import Reading, Survivors, TargetWeights, readings


@readings.register
class AggregationReading(Reading):
    """Move each client's aggregation weight along its loss information."""

    reading: Literal["aggregation"] = "aggregation"
    learning_rate: float = Field(0.5, ge=0, le=100)
    """Step size of the weights; 0 keeps sample shares, that is federated averaging."""
    loss_information: Literal["derivative", "value"] = "derivative"
    """`derivative`: minus the cosine of the update and the group's coordinate median. `value`: the client's training
    loss over the group's median, less 1."""
    penalty: Literal["undamped", "literal"] = "undamped"
    """Whether the scaling coefficient also divides a step that lowers the weight (`literal`) or not (`undamped`)."""
    largest: float = Field(8.0, gt=0, le=1e6)
    """Largest weight, where 1 is a client with the population's mean sample count."""

    @property
    def keeps_weights(self) -> bool:
        """True."""
        return True

    def target_weights(self, group: Survivors) -> TargetWeights:
        """Return `clamp(w - (learning_rate / c) * loss_information, 0, largest)`, and factors relative to their sum."""
        information = self._loss_information(group)
        # Suspicion may slow a gain, never shelter from a loss: an undamped penalty does not see the coefficient at all.
        undamped = (information > 0) & (self.penalty == "undamped")
        divisor = np.where(undamped, 1.0, group.coefficient)
        weight = np.clip(group.weights - self.learning_rate / divisor * information, 0.0, self.largest)
        mass = float(weight.sum())
        factors = weight / mass if mass > 0 else np.zeros(len(weight))
        return TargetWeights(
            loss_information=information, before=group.weights, weight=weight, factors=factors, mass=mass
        )

    def _loss_information(self, group: Survivors) -> NDArray[np.float64]:
        if self.loss_information == "value":
            median = float(np.median(group.loss))
            return group.loss / median - 1.0 if median > 0 else np.zeros(len(group.loss))
        evidence: Evidence = collect_evidence(group.updates, np.ones(len(group.samples)))
        return -evidence.center_cosines
