"""Sums over groups whose bits do not depend on how many ranks there are or which rank holds which group.

Floating point addition is not associative, so an ordinary Allreduce gives other bits at another number of ranks. Here
every term becomes a 64-bit integer (fixed point), integers are added, and the sum is turned back: integer addition is
associative, so any order gives the same bits. Each fixed block of coordinates has its own power-of-two scale, agreed by
a MAX reduction, because one scale for all would lose the small coordinates.

Error bound: with G planned groups and h = ceil(log2(G)), a term is rounded to a multiple of 2**(e - 62 + h), where 2**e
is at least the largest magnitude in its block. The integer sum is off by at most G * 2**(e - 63 + h) in that block; the
float64 made of it at the end is rounded once more, by at most 2**-53 of itself. Sums cannot overflow: G terms of at
most 2**(62 - h) each stay below 2**63. The headroom is taken from the planned groups, never from those that remain, so
a group that drops out changes no other group's rounding. More terms than planned are refused, and so is one that is not
finite: on every rank alike, so that none is left waiting for another.

The vector is worked through in pieces that stay in a core's cache, so that neither terms nor integers are ever held for
all coordinates. Pieces are whole blocks and bear on no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.native import columns
from hpcfsl.parallel.communicator import Communicator

BLOCK = 4096
PIECE = 1 << 20
"""Coordinates that are handled together, a whole number of blocks."""
# Blocks that are smaller than 2**-900 everywhere are rounded to multiples of that scale: far below any float32.
_LEAST_EXPONENT = -900
# Stands for a term that is not finite: more than any exponent of a float64.
_REFUSED = 1 << 20
_BITS = 62

Term = tuple[NDArray[Any], float]  # float32 or float64 [size], and its factor


def exact_sum(
    terms: Sequence[torch.Tensor], *, size: int, planned_groups: int, communicator: Communicator, block: int = BLOCK
) -> torch.Tensor:
    """Collective. Return the sum of all ranks' terms, float64 [size], the same bits on every rank, for any placement.

    Args:
        terms: This rank's terms, finite, float64 [size] each; may be none.
        size: Coordinates.
        planned_groups: Upper bound on the number of terms of all ranks together; the same on every rank.
        communicator: The ranks.
        block: Coordinates that share a scale; a power of two, at most `PIECE`.

    Raises:
        ValueError: On every rank: a term holds NaN or infinity, or there are more terms than planned.
    """
    pairs = [(term.cpu().numpy(), 1.0) for term in terms]
    total = np.empty(size)
    return _sum_terms(pairs, total, planned=planned_groups, block=block, communicator=communicator)


def exact_weighted_sum(
    rows: Sequence[torch.Tensor],
    factors: Sequence[float],
    *,
    size: int,
    planned_groups: int,
    communicator: Communicator,
    single: bool = False,
) -> torch.Tensor:
    """Collective. Return `exact_sum` of factor times row, the same bits, without making those terms.

    Args:
        rows: This rank's vectors, finite, float32 [size] each; may be none.
        factors: Their finite factors.
        size: Coordinates.
        planned_groups: As for `exact_sum`.
        communicator: The ranks.
        single: Return the float64 sum rounded to float32, which is never held as float64 for all coordinates.

    Raises:
        ValueError: On every rank: a term is not finite, or there are more terms than planned.
    """
    pairs = [(row.cpu().contiguous().numpy(), float(factor)) for row, factor in zip(rows, factors, strict=True)]
    total = np.empty(size, np.float32 if single else np.float64)
    return _sum_terms(pairs, total, planned=planned_groups, block=BLOCK, communicator=communicator)


def _sum_terms(
    terms: Sequence[Term], total: NDArray[Any], *, planned: int, block: int, communicator: Communicator
) -> torch.Tensor:
    """Collective. Return the sum over ranks of factor times vector in `total`, float64 or float32 [size]."""
    size = len(total)
    shifts = _agree_shifts(terms, size=size, planned=planned, block=block, communicator=communicator)
    sums, wide = np.empty(min(size, PIECE) + 1, np.int64), np.empty(min(size, PIECE))
    for first in range(0, size, PIECE):
        piece = slice(first, min(first + PIECE, size))
        scales = shifts[first // block : -(-piece.stop // block)]
        fixed = sums[: piece.stop - first + 1]  # the last one counts the terms
        fixed[:] = 0
        fixed[-1] = len(terms)
        for values, factor in terms:
            _add_fixed(values[piece], factor, np.ldexp(1.0, scales), block, fixed[:-1])
        communicator.sum_in_place(fixed)
        if fixed[-1] > planned:
            raise ValueError(f"an exact sum of {planned} planned terms was given {fixed[-1]}")
        floats = wide[: len(fixed) - 1]
        floats[:] = fixed[:-1]
        _times_blocks(floats, np.ldexp(1.0, -scales), block)
        with np.errstate(over="ignore"):  # a sum beyond float32 is infinite, as a step that is not taken
            total[piece] = floats
    return torch.from_numpy(total)


def _agree_shifts(
    terms: Sequence[Term], *, size: int, planned: int, block: int, communicator: Communicator
) -> NDArray[np.int64]:
    """Collective. Return the exponent of each block's scale, int64 [blocks]; see `_sum_terms`."""
    most = np.zeros(-(-size // block))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
        for values, factor in terms:
            # Rounding is monotonic, so the largest product is that of the largest coordinate.
            np.maximum(most, _largest(values, block).astype(np.float64) * abs(factor), out=most)
    # 2**exponent is at least every magnitude of every rank.
    exponents = np.where(most > 0, np.frexp(most)[1], _LEAST_EXPONENT).astype(np.int64)
    exponents[~np.isfinite(most)] = _REFUSED
    np.maximum(exponents, _LEAST_EXPONENT, out=exponents)
    communicator.max_in_place(exponents)
    if (exponents == _REFUSED).any():
        raise ValueError("an exact sum takes finite terms only")
    headroom = max(planned - 1, 0).bit_length()
    return _BITS - headroom - exponents


def _largest(values: NDArray[Any], block: int) -> NDArray[Any]:
    """Return the largest magnitude in each block, [blocks]; NaN or infinite where the block is not finite."""
    if values.dtype == np.float32 and columns.available():
        return columns.largest_magnitudes(values, block)
    pieces = (values[first : first + PIECE] for first in range(0, len(values), PIECE))
    return np.concatenate([np.maximum.reduceat(np.abs(piece), np.arange(0, len(piece), block)) for piece in pieces])


def _add_fixed(
    values: NDArray[Any], factor: float, scales: NDArray[np.float64], block: int, sums: NDArray[np.int64]
) -> None:
    """Add a term to fixed-point sums, in place; the product is rounded first, then to the nearest integer."""
    if values.dtype == np.float32 and columns.available():
        columns.add_fixed(values, factor, scales, block, sums)
        return
    scaled = values.astype(np.float64)
    scaled *= factor
    _times_blocks(scaled, scales, block)
    sums += np.rint(scaled, out=scaled).astype(np.int64)


def _times_blocks(values: NDArray[np.float64], scales: NDArray[np.float64], block: int) -> None:
    """Multiply each block of coordinates by its own power of two, in place."""
    whole = len(values) // block
    blocks = values[: whole * block].reshape(whole, block)
    blocks *= scales[:whole, None]
    values[whole * block :] *= scales[whole:].sum()  # one scale, or none where there is no rest
