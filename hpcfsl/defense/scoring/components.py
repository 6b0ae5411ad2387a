"""Scores that look at one thing each. All are ratios to the group's median, so 1 is an ordinary client.

None of them is enough alone. `distance` rewards whoever sits nearer the centre than honest clients do: ALIE, inner
product manipulation, min-max and mimic attacks then get the *largest* step. `norm` is two-sided for that reason.
`duplicate` sees colluders that upload the same vector. `composite` takes the largest of all four.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.defense.median import median_of
from hpcfsl.defense.scoring.evidence import Evidence
from hpcfsl.defense.scoring.score import RATIO_CAP, Score, over_median, scores


@scores.register
class DistanceScore(Score):
    """Distance to the group's coordinate median, over the median distance. One-sided: blind to inliers."""

    rule: Literal["distance"] = "distance"

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return distance ratios, [clients, 1]."""
        return distance(evidence)[:, None]


@scores.register
class DirectionScore(Score):
    """One minus the cosine to the group's coordinate median, over its median."""

    rule: Literal["direction"] = "direction"

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return direction ratios, [clients, 1]."""
        return direction(evidence)[:, None]


@scores.register
class NormScore(Score):
    """Two-sided norm ratio max(r, 1 / r), r the norm over the group's median norm."""

    rule: Literal["norm"] = "norm"

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return norm ratios, [clients, 1]."""
        return norm(evidence)[:, None]


@scores.register
class DuplicateScore(Score):
    """How much nearer the nearest neighbour is than is usual in the group: colluders send copies."""

    rule: Literal["duplicate"] = "duplicate"

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return nearness ratios, [clients, 1]."""
        return duplicate(evidence)[:, None]


def distance(evidence: Evidence) -> NDArray[np.float64]:
    """Return the distance to the centre over its median, [clients]."""
    return over_median(evidence.center_distances)


def direction(evidence: Evidence) -> NDArray[np.float64]:
    """Return 1 - cosine to the centre over its median, [clients]."""
    return over_median(1.0 - evidence.center_cosines)


def norm(evidence: Evidence) -> NDArray[np.float64]:
    """Return max(r, 1 / r) of the uploaded norm over its median, [clients]."""
    ratio = over_median(evidence.norms)
    return np.maximum(ratio, np.minimum(1.0 / np.maximum(ratio, 1.0 / RATIO_CAP), RATIO_CAP))


def duplicate(evidence: Evidence) -> NDArray[np.float64]:
    """Return the group's median nearest-neighbour distance over the client's own, at most `RATIO_CAP`, [clients]."""
    pairs = evidence.pair_distances
    np.fill_diagonal(pairs, np.inf)
    nearest = pairs.min(axis=1)
    usual = median_of(nearest)
    if usual == 0.0:
        return np.ones(len(nearest))
    return np.asarray(usual / np.maximum(nearest, usual / RATIO_CAP))
