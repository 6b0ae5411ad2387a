"""No scoring: everybody is equally ordinary, and nobody's update is looked at. Choose it for plain averaging."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.defense.scoring.evidence import Evidence
from hpcfsl.defense.scoring.score import Score, scores


@scores.register
class NoScore(Score):
    """A score of 1 for every finite update."""

    rule: Literal["none"] = "none"

    @property
    def compares(self) -> bool:
        """False."""
        return False

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return ones, [clients, 1]."""
        return np.ones((len(evidence.norms), 1))
