"""The plain sum over groups: an MPI Allreduce in float32, as other simulators do it.

Choose it (`global_aggregation.reduction = "float32"`) only where moving half the bytes matters more than equality: it
rounds in the order in which the MPI library adds, so its bits depend on the number of ranks, on which rank hosts which
group and on the library. Digests of runs on other numbers of ranks are then not equal. How far the sum is from the
exact one is measured in every round, on a sample of the coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate.exact import BLOCK, exact_weighted_sum
from hpcfsl.parallel.communicator import Communicator

PIECE = 1 << 20
"""Coordinates that are summed by one Allreduce."""
SAMPLED_BLOCKS = 16


def float32_weighted_sum(
    rows: Sequence[torch.Tensor], factors: Sequence[float], *, size: int, communicator: Communicator
) -> torch.Tensor:
    """Collective. Return the sum over ranks of factor times row, float32 [size], every product and sum rounded.

    Args:
        rows: This rank's vectors, float32 [size] each; may be none.
        factors: Their factors.
        size: Coordinates.
        communicator: The ranks.
    """
    pairs = [(row.cpu().numpy(), np.float32(factor)) for row, factor in zip(rows, factors, strict=True)]
    total = np.zeros(size, np.float32)
    for first in range(0, size, PIECE):
        sums = total[first : first + PIECE]
        with np.errstate(over="ignore", invalid="ignore"):  # the step that it would make is not taken
            for row, factor in pairs:
                sums += row[first : first + PIECE] * factor
        communicator.sum_floats_in_place(sums)
    return torch.from_numpy(total)


def sampled_difference(
    total: torch.Tensor,
    rows: Sequence[torch.Tensor],
    factors: Sequence[float],
    *,
    planned_groups: int,
    communicator: Communicator,
) -> float:
    """Collective. Return the largest difference of a sum to the exact one, over the largest magnitude of the exact one.

    Looks at up to 16 blocks of 4096 coordinates, spread over the vector; 0 where all of them are zero.

    Args:
        total: The sum, float32 [size].
        rows: As for `float32_weighted_sum`, finite.
        factors: Their finite factors.
        planned_groups: As for `hpcfsl.aggregate.exact.exact_sum`.
        communicator: The ranks.

    Raises:
        ValueError: On every rank: a term is not finite.
    """
    blocks = -(-len(total) // BLOCK)
    starts = np.unique(np.linspace(0, blocks - 1, SAMPLED_BLOCKS).astype(np.int64)) * BLOCK

    def sample(vector: torch.Tensor) -> torch.Tensor:
        return torch.cat([vector[start : start + BLOCK] for start in starts.tolist()]).cpu()

    found = sample(total)
    exact = exact_weighted_sum(
        [sample(row) for row in rows],
        factors,
        size=len(found),
        planned_groups=planned_groups,
        communicator=communicator,
    )
    return relative_difference(found.numpy(), exact.numpy())


def relative_difference(found: NDArray[np.float32], exact: NDArray[np.float64]) -> float:
    """Return the largest difference of two vectors over the largest magnitude of the second; 0 where that is zero."""
    largest = difference = 0.0
    with np.errstate(invalid="ignore"):
        for first in range(0, len(exact), PIECE):
            piece = slice(first, first + PIECE)
            largest = max(largest, float(np.abs(exact[piece]).max()))
            difference = float(np.maximum(difference, np.abs(found[piece] - exact[piece]).max()))
    return difference / largest if largest else 0.0
