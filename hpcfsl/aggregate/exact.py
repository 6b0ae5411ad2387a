"""Sums over groups whose bits do not depend on how many ranks there are or which rank holds which group.

Floating point addition is not associative, so an ordinary Allreduce gives other bits at another number of ranks. Here
every term becomes a 64-bit integer (fixed point), integers are added, and the sum is turned back: integer addition is
associative, so any order gives the same bits. Each fixed block of coordinates has its own power-of-two scale, agreed by
a MAX reduction, because one scale for all would lose the small coordinates.

Error bound: with G planned groups and h = ceil(log2(G)), a term is rounded to a multiple of 2**(e - 62 + h), where 2**e
is at least the largest magnitude in its block. The integer sum is off by at most G * 2**(e - 63 + h) in that block; the
float64 made of it at the end is rounded once more, by at most 2**-53 of itself. Sums cannot overflow: G terms of at
most 2**(62 - h) each stay below 2**63. The headroom is taken from the planned groups, never from those that remain, so
a group that drops out changes no other group's rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.native import columns
from hpcfsl.parallel.communicator import Communicator

BLOCK = 4096
# Blocks that are smaller than 2**-900 everywhere are rounded to multiples of that scale: far below any float32.
_LEAST_EXPONENT = -900
_BITS = 62


def exact_sum(
    terms: Sequence[torch.Tensor], *, size: int, planned_groups: int, communicator: Communicator
) -> torch.Tensor:
    """Collective. Return the sum of all ranks' terms, float64 [size], the same bits on every rank, for any placement.

    Args:
        terms: This rank's terms, finite, float64 [size] each; may be none.
        size: Coordinates.
        planned_groups: Upper bound on the number of terms of all ranks together; the same on every rank.
        communicator: The ranks.

    Raises:
        ValueError: A term holds NaN or infinity.
    """
    arrays = [term.cpu().numpy() for term in terms]
    largest = [np.maximum.reduceat(np.abs(array), np.arange(0, size, BLOCK)) for array in arrays]
    shifts = _agree_shifts(largest, size, planned_groups, communicator)
    total = np.zeros(size, np.int64)
    for array in arrays:
        scaled = _times_blocks(array.copy(), np.ldexp(1.0, shifts))
        total += np.rint(scaled, out=scaled).astype(np.int64)
    return _total_of(total, shifts, communicator)


def exact_weighted_sum(
    rows: Sequence[torch.Tensor],
    factors: Sequence[float],
    *,
    size: int,
    planned_groups: int,
    communicator: Communicator,
) -> torch.Tensor:
    """Collective. Return `exact_sum` of factor times row, the same bits, without making those terms.

    Args:
        rows: This rank's vectors, finite, float32 [size] each; may be none.
        factors: Their finite factors.
        size: Coordinates.
        planned_groups: As for `exact_sum`.
        communicator: The ranks.

    Raises:
        ValueError: A row holds NaN or infinity.
    """
    if not columns.available():
        terms = [row.double() * factor for row, factor in zip(rows, factors, strict=True)]
        return exact_sum(terms, size=size, planned_groups=planned_groups, communicator=communicator)
    pairs = [(row.cpu().contiguous().numpy(), float(factor)) for row, factor in zip(rows, factors, strict=True)]
    # Rounding is monotonic, so the largest product is that of the largest coordinate.
    largest = [columns.largest_magnitudes(row, BLOCK).astype(np.float64) * abs(factor) for row, factor in pairs]
    shifts = _agree_shifts(largest, size, planned_groups, communicator)
    total = np.zeros(size, np.int64)
    for row, factor in pairs:
        columns.add_fixed(row, factor, np.ldexp(1.0, shifts), BLOCK, total)
    return _total_of(total, shifts, communicator)


def _agree_shifts(
    largest: Sequence[NDArray[np.float64]], size: int, planned_groups: int, communicator: Communicator
) -> NDArray[np.int64]:
    """Collective. Return the exponent of each block's scale, int64 [blocks].

    Args:
        largest: The largest magnitude in each block, for each of this rank's terms, float64 [blocks].
        size: Coordinates.
        planned_groups: As for `exact_sum`.
        communicator: The ranks.
    """
    most = np.zeros(-(-size // BLOCK))
    for magnitudes in largest:
        most = np.maximum(most, magnitudes)
    if not np.isfinite(most).all():
        raise ValueError("an exact sum takes finite terms only")
    # 2**exponent is at least every magnitude of every rank.
    exponents = np.where(most > 0, np.frexp(most)[1], _LEAST_EXPONENT).astype(np.int64)
    exponents = np.maximum(exponents, _LEAST_EXPONENT)
    communicator.max_in_place(exponents)
    headroom = max(planned_groups - 1, 0).bit_length()
    return _BITS - headroom - exponents


def _total_of(total: NDArray[np.int64], shifts: NDArray[np.int64], communicator: Communicator) -> torch.Tensor:
    """Collective. Return the sum over ranks of fixed-point totals, as float64 [size]."""
    communicator.sum_in_place(total)
    return torch.from_numpy(_times_blocks(total.astype(np.float64), np.ldexp(1.0, -shifts)))


def _times_blocks(values: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply each block of coordinates by its own power of two, in place; return `values`."""
    whole = len(values) // BLOCK
    values[: whole * BLOCK].reshape(whole, BLOCK)[...] *= scales[:whole, None]
    values[whole * BLOCK :] *= scales[whole:].sum()  # one scale, or none where there is no rest
    return values
