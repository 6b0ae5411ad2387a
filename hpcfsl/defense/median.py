"""Medians: of every coordinate of a group's updates, by a sorting network, and of a few numbers.

Sorting every coordinate's few values one by one is slow: there are as many tiny sorts as parameters. A sorting network
(Batcher's odd-even merge sort, AFIPS 1968) does the same comparisons for a whole block of coordinates at once, as
element-wise minima and maxima of rows, and the comparisons that the median does not depend on are left out. The kernel
`hpcfsl.native.columns.coordinate_median` passes registers of coordinates through the same network.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.native import columns

# Coordinates handled together: a row of 16,384 float32 is 64 kB, so two rows stay in a core's cache.
BLOCK = 16_384


def coordinate_median(updates: torch.Tensor) -> torch.Tensor:
    """Return the median of each coordinate, [params]; the mean of the middle two for an even number of clients.

    Args:
        updates: Finite updates of at least one client, [clients, params].
    """
    rows = columns.rows_of(updates)
    if rows is not None:
        return torch.from_numpy(columns.coordinate_median(rows, network(len(rows))))
    medians = [_median_of_rows(updates[:, first : first + BLOCK]) for first in range(0, updates.shape[1], BLOCK)]
    return torch.cat(medians) if medians else updates.new_zeros(0)


def median_of(values: NDArray[np.float64]) -> float:
    """Return the median of a short vector, as `numpy.median` does, which takes twenty times as long; NaN stays NaN."""
    ordered, middle = np.sort(values), len(values) // 2
    if np.isnan(ordered[-1]):
        return float("nan")
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


@lru_cache(maxsize=64)
def network(count: int) -> NDArray[np.int32]:
    """Return the comparisons, in order, that put the median of `count` rows in place, int32 [comparisons, 2]."""
    return np.array(_comparators(count), np.int32).reshape(-1, 2)


def _median_of_rows(block: torch.Tensor) -> torch.Tensor:
    count = len(block)
    rows = list(block.clone().unbind(0))
    spare = torch.empty_like(rows[0])
    for low, high in _comparators(count):
        torch.minimum(rows[low], rows[high], out=spare)
        torch.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    middle = count // 2
    if count % 2:
        return rows[middle]
    # Halved before the sum: the middle two of 1e38 must not overflow.
    return rows[middle - 1] * 0.5 + rows[middle] * 0.5


@lru_cache(maxsize=64)
def _comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Return the comparisons, in order, that put the median (or both middle values) of `count` rows in place."""
    needed = {count // 2} if count % 2 else {count // 2 - 1, count // 2}
    kept = []
    for low, high in reversed(list(_merge_exchange(count))):
        if low in needed or high in needed:
            kept.append((low, high))
            needed |= {low, high}
    return tuple(reversed(kept))


def _merge_exchange(count: int) -> Iterator[tuple[int, int]]:
    """Yield the comparisons of a network that sorts `count` rows (Knuth, TAOCP 3, 5.2.2, algorithm M)."""
    top = 1 << max(count - 1, 0).bit_length() >> 1
    size = top
    while size > 0:
        step, offset, distance = top, 0, size
        while True:
            yield from ((i, i + distance) for i in range(count - distance) if i & size == offset)
            if step == size:
                break
            distance, step, offset = step - size, step >> 1, size
        size >>= 1
