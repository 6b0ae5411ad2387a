"""Smashed data that lie elsewhere, or spread more or less, than those of the group's other clients.

For each client two numbers. *Where*: the distance of its mean to the coordinate median of all clients' means, class by
class, over what is to be expected of honest clients, `sqrt(B + W / samples)` with `W` the variance within a client and
`B` that between clients (a random-effects model, so that a client with few samples is not far for that alone), and
averaged over its samples. *Spread*: the logarithm of its standard deviation over the median one, either way. The score
is the larger of the two in robust standard deviations. The frame is Byzantine-robust statistics' (coordinate median and
MAD); HealSplit (Xie and Lyu, AAAI 2026) is the context: it looks for anomalies of smashed data too, with graphs over
samples, and replaces what it finds.

Choose it against poisoned smashed data and polluted inputs. It is blind to flipped labels where the server has no
labels, and to data that lie just where honest ones do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.median import coordinate_median, median_of
from hpcfsl.defense.screening.classes import ClassRows, sort_samples
from hpcfsl.defense.screening.screening import FEWEST, Comparison, FirstPass, screenings

# Squared distances below this share of the squared lengths are rounding: distances a millionth of the lengths.
_ROUNDING = 1e-12


@screenings.register
class DistanceScreening(Comparison):
    """Leave out clients whose smashed data lie or spread unlike the group's."""

    rule: Literal["distance"] = "distance"
    floor: float = Field(0.05, gt=0, le=10)
    """Least deviation, as a share of an ordinary distance or spread: nearly equal clients must not be left out."""

    def measure(self, data: FirstPass) -> NDArray[np.float64]:
        """Return the larger of both numbers, in robust standard deviations, float64 [clients]."""
        classes = list(sort_samples(data).by_class())
        variances = _variances(classes)
        where = _mean_distances(classes, median_of(variances))
        spread = np.abs(_log_ratio(np.sqrt(variances)))
        return np.maximum(self.standardise(where), self.standardise(spread))


def _variances(classes: list[ClassRows]) -> NDArray[np.float64]:
    """Return each client's variance within its classes, summed over features, float64 [clients]."""
    squares = sum((each.squares(each.means()) for each in classes), np.zeros(classes[0].clients))
    spare = sum((np.maximum(each.counts - 1, 0) for each in classes), np.zeros(classes[0].clients, np.int64))
    return np.asarray(squares / np.maximum(spare, 1))


def _mean_distances(classes: list[ClassRows], variance: float) -> NDArray[np.float64]:
    """Return each client's distance over the expected one, averaged over its samples; NaN where nobody compares."""
    total, weight = np.zeros(classes[0].clients), np.zeros(classes[0].clients)
    for each in classes:
        held = each.counts > 0
        if held.sum() >= FEWEST:
            counts = each.counts[held]
            total[held] += counts * _distances(each.means()[torch.from_numpy(held)], variance / counts)
            weight[held] += counts
    return np.asarray(np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0))


def _distances(means: torch.Tensor, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of means [clients, features] to their median, over the expected one, float64 [clients]."""
    squares = (means - coordinate_median(means)).square().sum(dim=1).cpu().numpy()
    lengths = means.square().sum(dim=1).cpu().numpy()
    squares = np.where(squares > _ROUNDING * lengths, squares, 0.0)
    between = max(median_of(squares - noise), 0.0)
    expected = between + noise
    ratios = np.divide(squares, expected, out=np.where(squares > 0, np.inf, 0.0), where=expected > 0)
    return np.asarray(np.sqrt(np.minimum(ratios, 1e12)))


def _log_ratio(spreads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of each number over the median, within what float64 bears; 0 where all are 0."""
    middle = median_of(spreads)
    ratios = spreads / middle if middle > 0 else np.where(spreads > 0, np.inf, 1.0)
    return np.asarray(np.log(np.clip(ratios, 1e-12, 1e12)))
