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
    stacked = np.stack([updates[group].cpu().numpy() for group in mine]) if mine else np.zeros((0, size), np.float32)
    received = communicator.exchange([stacked[:, bounds[r] : bounds[r + 1]] for r in range(communicator.size)])
    owners = [group for part in communicator.gather_all(mine) for group in part]
    rows = np.concatenate(received)[np.argsort(owners)]
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
    points = torch.cat([slices.rows, own[None]])
    parts = [_block_distances(points[:, first : first + BLOCK]) for first in range(0, points.shape[1], BLOCK)]
    total = np.zeros((len(points), len(points)))
    for part in (part for rank_parts in communicator.gather_all(parts) for part in rank_parts):
        total += part
    return total


def gather_slices(values: torch.Tensor, communicator: Communicator) -> torch.Tensor:
    """Collective. Return the whole vector, float64 [size], whose slices the ranks hold."""
    return torch.from_numpy(np.concatenate(communicator.gather_all(values.numpy())))


def _block_distances(points: torch.Tensor) -> NDArray[np.float64]:
    # Relative to one of the points, so that the differences keep their digits where all points are close together.
    centred = points.double() - points[0].double()
    gram = centred @ centred.T
    square = torch.diagonal(gram)
    return (square[:, None] + square[None, :] - 2 * gram).clamp_(min=0).fill_diagonal_(0).numpy()
