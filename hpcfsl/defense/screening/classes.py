"""Smashed data sorted by client and class: means and spreads of each, in float64, one class at a time.

A client's data may hold other classes than its neighbour's, so screening compares a class with the same class. Classes
are the labels; where a sample has a symbol at each position, the positions are samples; number targets make two
classes, up to the median over all samples and above it. Without labels at the server everything is one class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.median import coordinate_median
from hpcfsl.defense.screening.screening import FirstPass


@dataclass(frozen=True, kw_only=True)
class ClassMeans:
    """What screening knows of one class.

    Attributes:
        counts: Samples of each client, int64 [clients].
        means: Mean of each client's samples, float64 [clients, features]; 0 where it has none.
        squares: Sum of squared deviations of each client's samples from its mean, over all features, float64 [clients].
    """

    counts: NDArray[np.int64]
    means: torch.Tensor
    squares: NDArray[np.float64]

    @property
    def held(self) -> NDArray[np.bool_]:
        """Who has samples of the class, bool [clients]."""
        return np.asarray(self.counts > 0)

    @property
    def held_means(self) -> torch.Tensor:
        """Means of those who have, float64 [holders, features]."""
        return self.means[torch.from_numpy(self.held)]

    def centroid(self) -> torch.Tensor:
        """Return the coordinate median of the means, float64 [features]."""
        return coordinate_median(self.held_means)


def class_means(data: FirstPass) -> list[ClassMeans]:
    """Return what each class that occurs looks like, classes ascending."""
    rows, owners, classes = _sort(data)
    found = []
    for label in torch.unique(classes).tolist():
        chosen = classes == label
        found.append(_describe(rows[chosen].double(), owners[chosen], len(data.counts)))
    return found


def _describe(rows: torch.Tensor, owners: torch.Tensor, clients: int) -> ClassMeans:
    counts = np.bincount(owners.cpu().numpy(), minlength=clients).astype(np.int64)
    # A product and not a scattered sum, which a GPU adds in any order.
    members = (torch.arange(clients, device=rows.device)[:, None] == owners[None, :]).double()
    means = members @ rows / torch.from_numpy(np.maximum(counts, 1)).to(rows.device)[:, None]
    deviations = (rows - means[owners]).square().sum(dim=1)
    return ClassMeans(counts=counts, means=means, squares=(members @ deviations).cpu().numpy())


def _sort(data: FirstPass) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return smashed data as rows [samples, features], the client of each and the class of each, int64 [samples]."""
    smashed, labels, owners = data.smashed, data.labels, data.owners
    if labels is None:
        return smashed.flatten(1), owners, torch.zeros_like(owners)
    if labels.is_floating_point():
        numbers = labels.double().flatten(1).mean(dim=1)
        return smashed.flatten(1), owners, (numbers > numbers.median()).long()
    if labels.ndim == 1:
        return smashed.flatten(1), owners, labels
    if smashed.ndim > 2 and smashed.shape[1] == labels.shape[1]:
        positions = labels.shape[1]
        return smashed.flatten(0, 1).flatten(1), owners.repeat_interleave(positions), labels.flatten()
    # What the client sends has no positions left: a sample belongs to its last symbol.
    return smashed.flatten(1), owners, labels[:, -1]
