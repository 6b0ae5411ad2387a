"""Smashed data that lie elsewhere, or spread more or less, than those of the group's other clients.

For each client two numbers. *Where*: the distance of its mean to the coordinate median of all clients' means, class by
class, over what is to be expected of honest clients, `sqrt(B + W / samples)` with `W` the variance within a client and
`B` that between clients (a random-effects model, so that a client with few samples is not far for that alone), and
averaged over its samples. *Spread*: the logarithm of its standard deviation over the median one, either way, less where
fewer samples than usual make it unsure. The score is the larger of the two in robust standard deviations. Coordinate
median and MAD are the usual tools against Byzantine clients; HealSplit (Xie and Lyu, AAAI 2026) is the context: it
looks for anomalies of smashed data too, with graphs over samples, and replaces what it finds.

Choose it against poisoned smashed data and polluted inputs. It is blind to flipped labels where the server has no
labels, and to data that lie just where honest ones do.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.median import median_of
from hpcfsl.defense.screening.classes import ClassMeans, class_means
from hpcfsl.defense.screening.screening import FEWEST, Comparison, FirstPass, screenings

# Squared distances below this share of the squared lengths are rounding: distances a millionth of the lengths.
_ROUNDING = 1e-12


@screenings.register
class DistanceScreening(Comparison):
    """Leave out clients whose smashed data lie or spread unlike the group's."""

    rule: Literal["distance"] = "distance"
    floor: float = Field(0.1, gt=0, le=10)
    """Least deviation, as a share of an ordinary distance or spread: nearly equal clients must not be left out."""

    def measure(self, data: FirstPass) -> NDArray[np.float64]:
        """Return the larger of both numbers, in robust standard deviations, float64 [clients]."""
        classes = class_means(data)
        freedom = np.sum([np.maximum(each.counts - 1, 0) for each in classes], axis=0).astype(np.float64)
        variances = np.sum([each.squares for each in classes], axis=0) / np.maximum(freedom, 1)
        where = _mean_distances(classes, median_of(variances))
        # The estimate of a spread is unsure by 1 / sqrt(degrees of freedom).
        sure = np.sqrt(np.minimum(freedom / max(median_of(freedom), 1), 1))
        spread = sure * np.abs(_log_ratio(np.sqrt(variances)))
        return np.maximum(self.standardise(where), self.standardise(spread))


def _mean_distances(classes: list[ClassMeans], variance: float) -> NDArray[np.float64]:
    """Return each client's distance over the expected one, averaged over its samples; NaN where nobody compares."""
    total, weight = np.zeros((2, len(classes[0].counts)))
    for each in classes:
        held, counts = each.held, each.counts[each.held]
        if held.sum() >= FEWEST:
            total[held] += counts * _distances(each.held_means, each.centroid(), variance / counts)
            weight[held] += counts
    return np.asarray(np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0))


def _distances(means: torch.Tensor, center: torch.Tensor, noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of means [clients, features] to their centre, over the expected one, float64 [clients]."""
    squares = (means - center).square().sum(dim=1).cpu().numpy()
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
