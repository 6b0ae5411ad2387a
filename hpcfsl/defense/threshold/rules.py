"""The built-in threshold rules.

`mad` is robust: up to half the scores can be anything. Choose `mean-std` only to follow the literature, because
attackers raise the mean and the deviation that are to catch them; `quantile` to exclude a fixed share of clients,
honest or not; `none` to study weights alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.median import median_of
from hpcfsl.defense.threshold.threshold import Threshold, thresholds

# Makes the median absolute deviation estimate a normal distribution's standard deviation.
_NORMAL = 1.4826


@thresholds.register
class MedianDeviation(Threshold):
    """Median + k * 1.4826 * max(MAD, floor * median)."""

    rule: Literal["mad"] = "mad"
    k: float = Field(3.0, gt=0, le=100)
    """Robust standard deviations above the median."""
    floor: float = Field(0.05, ge=0, le=10)
    """Least deviation, as a share of the median: nearly equal scores must not exclude anybody."""

    def compute(self, scores: NDArray[np.float64]) -> float:
        """Return the threshold."""
        median = median_of(scores)
        deviation = median_of(np.abs(scores - median))
        return median + self.k * _NORMAL * max(deviation, self.floor * median)


@thresholds.register
class MeanDeviation(Threshold):
    """Mean + k * standard deviation."""

    rule: Literal["mean-std"] = "mean-std"
    k: float = Field(1.5, gt=0, le=100)
    """Standard deviations above the mean; among n clients none can lie further than (n - 1) / sqrt(n)."""

    def compute(self, scores: NDArray[np.float64]) -> float:
        """Return the threshold."""
        # Rounding may put the mean of equal scores just below them; equals are never above their threshold.
        equal = scores.min() == scores.max()
        return float(scores[0]) if equal else float(np.mean(scores) + self.k * np.std(scores))


@thresholds.register
class Quantile(Threshold):
    """The q-quantile of the scores, interpolated linearly."""

    rule: Literal["quantile"] = "quantile"
    q: float = Field(0.8, gt=0, lt=1)
    """Share of scores at or below the threshold."""

    def compute(self, scores: NDArray[np.float64]) -> float:
        """Return the threshold."""
        equal = scores.min() == scores.max()
        return float(scores[0]) if equal else float(np.quantile(scores, self.q))


@thresholds.register
class NoThreshold(Threshold):
    """Exclude nobody but non-finite updates; credit scores still bear on the weights."""

    rule: Literal["none"] = "none"

    def compute(self, scores: NDArray[np.float64]) -> float:
        """Return infinity."""
        return float(np.inf)
