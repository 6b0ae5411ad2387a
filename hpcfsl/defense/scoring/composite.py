"""The default score: the largest of distance, direction, norm and duplicate, each over its group's median.

An attack has to look ordinary in every one of them at once. On synthetic updates its area under the curve is 1 against
the inlier attacks that `distance` alone rewards (ALIE, IPM, min-max), and .97 against mimic, whose victim looks like
its copies. It needs colluders that upload copies: ALIE at z = .25 with noise as large as the honest clients' own in it
brings the area down to .1 (tests/defense/test_scores.py).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.defense.scoring import components as parts
from hpcfsl.defense.scoring.evidence import Evidence
from hpcfsl.defense.scoring.score import Score, over_median, scores


@scores.register
class CompositeScore(Score):
    """Largest of the four single scores."""

    rule: Literal["composite"] = "composite"

    @property
    def component_names(self) -> tuple[str, ...]:
        """The four single scores."""
        return ("distance", "direction", "norm", "duplicate")

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return the four scores, each over its group median, [clients, 4]."""
        measures = (parts.distance, parts.direction, parts.norm, parts.duplicate)
        return np.stack([over_median(measure(evidence)) for measure in measures], axis=1)

    def combine(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the largest component, [clients]."""
        return np.asarray(components.max(axis=1, initial=0.0))
