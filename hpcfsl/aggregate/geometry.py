"""Distances between all groups' second model updates, the same bits on any number of ranks.

No rank holds every group. Each rank is handed a slice of every group's vector (a union of fixed blocks of coordinates)
and computes squared distances block by block. The blocks' parts are added in fixed point (`hpcfsl.aggregate.exact`), so
one matrix is summed over the ranks, and which rank has which blocks bears on no bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate.exact import exact_sum
from hpcfsl.parallel.communicator import Communicator

BLOCK = 65_536
# Coordinates handled together inside a block: ten groups of them in float64 stay in a core's cache.
_PIECE = 8192
# A distance below this share of those to the reference has lost ten of its 53 bits, and is done again.
_CLOSE = 2.0**-10
# Up to so many pairs a row are done again one by one.
_FEW = 4


@dataclass(frozen=True, kw_only=True)
class Slices:
    """This rank's slice of every group's vector.

    Attributes:
        rows: float32 [groups, coordinates of the slice], groups in ascending order.
        start: First coordinate of the slice.
        size: Coordinates of the whole vector.
    """

    rows: torch.Tensor
    start: int
    size: int


def exchange_slices(
    updates: Mapping[int, torch.Tensor], groups: Sequence[int], size: int, communicator: Communicator
) -> Slices:
    """Collective. Return this rank's slice of every group's vector.

    Args:
        updates: Second model updates of the groups that this rank hosts, float32 [size] each.
        groups: All groups that have an update, ascending, the same on every rank.
        size: Coordinates.
        communicator: The ranks.
    """
    bounds = slice_bounds(size, communicator.size)
    mine = [group for group in groups if group in updates]
    vectors = [updates[group].cpu().numpy() for group in mine]
    received = communicator.exchange([_stack(vectors, *bounds[rank : rank + 2]) for rank in range(communicator.size)])
    owners = [group for part in communicator.gather_all(mine) for group in part]
    rows = received[0] if len(received) == 1 else np.concatenate(received)
    if owners != sorted(owners):
        rows = rows[np.argsort(owners)]
    return Slices(rows=torch.from_numpy(rows), start=bounds[communicator.rank], size=size)


def slice_bounds(size: int, ranks: int) -> list[int]:
    """Return ranks + 1 coordinates that divide a vector into even runs of whole blocks."""
    blocks = -(-size // BLOCK)
    return [min(blocks * rank // ranks * BLOCK, size) for rank in range(ranks + 1)]


def pair_distances(slices: Slices, anchor: torch.Tensor, communicator: Communicator) -> NDArray[np.float64]:
    """Collective. Return squared distances between all groups and an anchor, float64 [groups + 1, groups + 1].

    A distance is off by at most blocks**2 * 2**-61 of itself by the sum, and by 1e-11 of each block's part before that.

    Args:
        slices: From `exchange_slices`.
        anchor: A vector that every rank knows, float32 [size]; the last row and column.
        communicator: The ranks.
    """
    own = anchor[slices.start : slices.start + slices.rows.shape[1]]
    count = len(slices.rows) + 1
    above = np.triu_indices(count, 1)
    parts = []
    for first in range(0, len(own), BLOCK):
        points = torch.cat([slices.rows[:, first : first + BLOCK], own[None, first : first + BLOCK]])
        parts.append(torch.from_numpy(block_distances(points)[above]))
    blocks = -(-slices.size // BLOCK)
    # A scale for each pair: near groups keep their digits beside far ones.
    pairs = exact_sum(parts, size=len(above[0]), planned_groups=blocks, communicator=communicator, block=1)
    total = np.zeros((count, count))
    total[above] = pairs.numpy()
    return total + total.T


def gather_slices(values: torch.Tensor, communicator: Communicator) -> torch.Tensor:
    """Collective. Return the whole vector, [size], whose slices the ranks hold."""
    return torch.from_numpy(np.concatenate(communicator.gather_all(values.numpy())))


def _stack(vectors: Sequence[NDArray[np.float32]], start: int, stop: int) -> NDArray[np.float32]:
    """Return one slice of every vector, float32 [vectors, stop - start]."""
    rows = np.empty((len(vectors), stop - start), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[:] = vector[start:stop]
    return rows


def block_distances(points: torch.Tensor) -> NDArray[np.float64]:
    """Return the squared distances between all rows over one block, float64 [rows, rows]; right above the diagonal.

    They are made from inner products relative to one of the rows, which is fast but leaves few digits of a distance
    that is small beside those to that row. Such pairs are done again, relative to one of themselves.

    Args:
        points: float32 [rows, coordinates].
    """
    found, close = _relative_distances(points)
    while len(pairs := close.nonzero()):
        members = torch.unique(pairs)
        if len(pairs) <= _FEW * len(members):
            found[tuple(pairs.T)] = torch.stack([_distance(points[i], points[j]) for i, j in pairs.tolist()])
            break
        again, still = _relative_distances(points[members])
        place = members[:, None], members[None, :]
        redo = close[place]
        found[place] = torch.where(redo, again, found[place])
        close[place] = redo & still
    return found.numpy()


def _relative_distances(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distances, float64 [rows, rows], and of which pairs above the diagonal few digits are left."""
    gram = torch.zeros(len(points), len(points), dtype=torch.float64)
    for first in range(0, points.shape[1], _PIECE):
        piece = points[:, first : first + _PIECE].double()
        piece -= piece[0].clone()
        gram += piece @ piece.T
    square = torch.diagonal(gram)
    both = square[:, None] + square[None, :]
    found = (both - 2 * gram).clamp_(min=0)
    return found, (found < _CLOSE * both).triu_(1)


def _distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the squared distance of two vectors, float64, from their difference."""
    difference = one.double() - other.double()
    return difference @ difference
