"""Distances between all groups' second model updates, the same bits on any number of ranks.

No rank holds every group. Each rank is handed a slice of every group's vector (a union of fixed blocks of coordinates),
computes squared distances block by block, and the blocks' parts are added in block order on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.parallel.communicator import Communicator

BLOCK = 65_536
# Coordinates handled together inside a block: ten groups of them in float64 stay in a core's cache.
_PIECE = 8192


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

    Args:
        slices: From `exchange_slices`.
        anchor: A vector that every rank knows, float32 [size]; the last row and column.
        communicator: The ranks.
    """
    own = anchor[slices.start : slices.start + slices.rows.shape[1]]
    starts = range(0, len(own), BLOCK)
    parts = [_block_distances(slices.rows[:, first : first + BLOCK], own[first : first + BLOCK]) for first in starts]
    count = len(slices.rows) + 1
    total = np.zeros((count, count))
    for part in (part for rank_parts in communicator.gather_all(parts) for part in rank_parts):
        total += part
    return total


def gather_slices(values: torch.Tensor, communicator: Communicator) -> torch.Tensor:
    """Collective. Return the whole vector, float64 [size], whose slices the ranks hold."""
    return torch.from_numpy(np.concatenate(communicator.gather_all(values.numpy())))


def _stack(vectors: Sequence[NDArray[np.float32]], start: int, stop: int) -> NDArray[np.float32]:
    """Return one slice of every vector, float32 [vectors, stop - start]."""
    rows = np.empty((len(vectors), stop - start), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        row[:] = vector[start:stop]
    return rows


def _block_distances(rows: torch.Tensor, anchor: torch.Tensor) -> NDArray[np.float64]:
    """Return the squared distances over one block of coordinates between rows and, last, the anchor."""
    count = len(rows) + 1
    gram = torch.zeros(count, count, dtype=torch.float64)
    for first in range(0, len(anchor), _PIECE):
        piece = slice(first, first + _PIECE)
        points = torch.cat([rows[:, piece], anchor[None, piece]]).double()
        # Relative to one of the points, so that the differences keep their digits where all points are close together.
        points -= points[0].clone()
        gram += points @ points.T
    square = torch.diagonal(gram)
    return (square[:, None] + square[None, :] - 2 * gram).clamp_(min=0).fill_diagonal_(0).numpy()
