"""Classes whose smashed data lie where another class lies: what flipped labels look like at the server.

The centroid of a class is the coordinate median over clients of their means of that class. For each class that a client
holds, with `a` the distance of its mean to the centroid of that class and `b` to the nearest centroid of another, its
disagreement is `a / (a + b)`: 0 where it is at home, above one half where it is nearer to another class. A client's
number is the mean over its samples, the score that number in robust standard deviations. Spectral signatures (Tran, Li
and Madry, NeurIPS 2018) rest on the same fact, that wrong labels leave a trace in hidden activations; they look for
samples in one data set, this rule for clients.

Choose it against label flips where the server holds labels. It needs clients that share classes: a class that fewer
than three clients hold accuses nobody.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.screening.classes import class_means
from hpcfsl.defense.screening.screening import FEWEST, Comparison, FirstPass, screenings


@screenings.register
class CentroidScreening(Comparison):
    """Leave out clients whose classes lie nearer to other classes than the group's do."""

    rule: Literal["centroids"] = "centroids"
    floor: float = Field(0.05, gt=0, le=1)
    """Least deviation of the disagreement, which is in 0 to 1: nearly equal clients must not be left out."""

    @property
    def needs_labels(self) -> bool:
        """True."""
        return True

    def measure(self, data: FirstPass) -> NDArray[np.float64]:
        """Return the disagreement in robust standard deviations, float64 [clients]."""
        classes = class_means(data)
        centroids = torch.stack([each.centroid() for each in classes])
        total, weight = np.zeros((2, len(data.counts)))
        for place, each in enumerate(classes):
            held, counts = each.held, each.counts[each.held]
            if held.sum() >= FEWEST and len(classes) > 1:
                total[held] += counts * _disagreement(each.held_means, centroids, place)
                weight[held] += counts
        return self.standardise(np.divide(total, weight, out=np.full(len(total), np.nan), where=weight > 0))


def _disagreement(means: torch.Tensor, centroids: torch.Tensor, place: int) -> NDArray[np.float64]:
    """Return a / (a + b) for means [clients, features] of the class whose centroid is at `place`, float64 [clients]."""
    distances = torch.stack([(means - each).norm(dim=1) for each in centroids], dim=1).cpu().numpy()
    own, others = distances[:, place], np.delete(distances, place, axis=1).min(axis=1)
    return np.asarray(np.divide(own, own + others, out=np.zeros_like(own), where=own + others > 0))
