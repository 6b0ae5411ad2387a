"""What the targets of clients are counted by: classes, or ranges of the numbers that are to be predicted.

Layer 4. Of several numbers, as in a forecast, the mean is counted. Ranges are equally wide, between the first and the
last hundredth of all training samples; the outermost two are open to their side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset

_RANGES = 8
_TAIL = 0.01


class Kinds:
    """The classes of a data set, or ranges of its numbers.

    Args:
        dataset: The data.
        rows: Rows that the ranges are made from.

    Attributes:
        names: What each is called.
    """

    def __init__(self, dataset: Dataset, rows: NDArray[np.int64]) -> None:
        self._count = dataset.num_classes
        self._edges = np.empty(0)
        if dataset.has_numbers:
            low, high = np.quantile(means(dataset.targets[rows]), [_TAIL, 1.0 - _TAIL])
            self._edges = np.linspace(low, high, _RANGES + 1)[1:-1] if high > low else np.array([low])
            self._count = len(self._edges) + 1
        self.names = _name_ranges(self._edges) if dataset.has_numbers else tuple(map(str, range(self._count)))

    def count(self, targets: NDArray[Any]) -> NDArray[np.int64]:
        """Return how many of some targets, or of their positions, are of each kind, int64 [kinds]."""
        if len(self._edges):
            places = np.searchsorted(self._edges, means(targets), side="right")
        else:
            places = targets.reshape(-1).astype(np.int64, copy=False)
        return np.bincount(places, minlength=self._count)


def means(targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of the numbers of each sample, float64 [n], of targets [n, outputs]."""
    return np.asarray(targets.mean(axis=1, dtype=np.float64))


def _name_ranges(edges: NDArray[np.float64]) -> tuple[str, ...]:
    digits = _digits(edges)
    texts = [f"{edge:.{digits}g}" for edge in edges]
    return (f"< {texts[0]}", *(f"{low} .." for low in texts[:-1]), f">= {texts[-1]}")


def _digits(edges: NDArray[np.float64]) -> int:
    """Return with how many digits, at least 3, all edges look different."""
    return next((few for few in range(3, 12) if len({f"{edge:.{few}g}" for edge in edges}) == len(edges)), 12)
