"""Smashed data sorted by client and class: means of each, in float64, one class at a time.

A client's data may hold other classes than its neighbour's, so screening compares a class with the same class. Classes
are the labels; where a sample has a symbol at each position, the positions are samples; number targets make two
classes, up to the median over all clients and above it. Without labels at the server everything is one class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.screening.screening import FirstPass


@dataclass(frozen=True, kw_only=True)
class Samples:
    """All samples of a pass as rows.

    Attributes:
        rows: Smashed data, float [samples, features].
        owners: Client of each row, int64 [samples].
        classes: Class of each row, int64 [samples].
        clients: Number of clients.
    """

    rows: torch.Tensor
    owners: torch.Tensor
    classes: torch.Tensor
    clients: int

    def by_class(self) -> Iterator[ClassRows]:
        """Yield the rows of each class that occurs, classes ascending."""
        for label in torch.unique(self.classes).tolist():
            chosen = self.classes == label
            yield ClassRows(rows=self.rows[chosen].double(), owners=self.owners[chosen], clients=self.clients)


@dataclass(frozen=True, kw_only=True)
class ClassRows:
    """The rows of one class: float64 [samples, features], with the client of each, int64 [samples]."""

    rows: torch.Tensor
    owners: torch.Tensor
    clients: int

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each client, int64 [clients]."""
        return np.bincount(self.owners.cpu().numpy(), minlength=self.clients).astype(np.int64)

    def means(self) -> torch.Tensor:
        """Return the mean of each client's rows, float64 [clients, features]; 0 where it has none."""
        counts = torch.from_numpy(np.maximum(self.counts, 1)).to(self.rows.device)
        return self._sum(self.rows) / counts[:, None]

    def squares(self, means: torch.Tensor) -> NDArray[np.float64]:
        """Return the sum of squared deviations of each client's rows from its mean, float64 [clients]."""
        deviations = (self.rows - means[self.owners]).square().sum(dim=1, keepdim=True)
        return np.asarray(self._sum(deviations)[:, 0].cpu().numpy())

    def _sum(self, rows: torch.Tensor) -> torch.Tensor:
        # A product and not a scattered sum, which a GPU adds in any order.
        members = torch.arange(self.clients, device=rows.device)[:, None] == self.owners[None, :]
        return members.double() @ rows


def sort_samples(data: FirstPass) -> Samples:
    """Return the samples of a pass, each with its class."""
    smashed, labels, owners = data.smashed.flatten(1), data.labels, data.owners
    if labels is None:
        classes = torch.zeros(len(smashed), dtype=torch.int64, device=smashed.device)
    elif labels.is_floating_point():
        numbers = labels.double().flatten(1).mean(dim=1)
        classes = (numbers > numbers.median()).long()
    elif labels.ndim == 1:
        classes = labels
    elif data.smashed.shape[1] == labels.shape[1] and data.smashed.ndim > 2:
        smashed, owners = data.smashed.flatten(0, 1).flatten(1), owners.repeat_interleave(labels.shape[1])
        classes = labels.flatten()
    else:  # what the client sends has no positions left: its last symbol is the class of a sample
        classes = labels[:, -1]
    return Samples(rows=smashed, owners=owners, classes=classes, clients=len(data.counts))
