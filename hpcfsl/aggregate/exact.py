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
    headroom = max(planned_groups - 1, 0).bit_length()
    arrays = [term.cpu().numpy() for term in terms]
    shifts = np.repeat(_BITS - headroom - _agree_exponents(arrays, size, communicator), BLOCK)[:size]
    total = np.zeros(size, np.int64)
    for array in arrays:
        total += np.rint(np.ldexp(array, shifts)).astype(np.int64)
    communicator.sum_in_place(total)
    return torch.from_numpy(np.ldexp(total.astype(np.float64), -shifts))


def _agree_exponents(terms: Sequence[NDArray[np.float64]], size: int, communicator: Communicator) -> NDArray[np.int64]:
    """Collective. Return e with |term| <= 2**e for every term of every rank, int64 [blocks]."""
    largest = np.zeros(-(-size // BLOCK))
    for term in terms:
        largest = np.maximum(largest, np.maximum.reduceat(np.abs(term), np.arange(0, size, BLOCK)))
    if not np.isfinite(largest).all():
        raise ValueError("an exact sum takes finite terms only")
    exponents = np.where(largest > 0, np.frexp(largest)[1], _LEAST_EXPONENT).astype(np.int64)
    exponents = np.maximum(exponents, _LEAST_EXPONENT)
    communicator.max_in_place(exponents)
    return exponents
