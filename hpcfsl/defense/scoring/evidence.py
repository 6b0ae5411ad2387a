"""What scores are made from: the geometry of a group's first model updates, in one pass over the parameters.

Everything the built-in scores need (distances to the group's coordinate median, norms, cosines, distances between
clients) follows from a few inner products. They are summed in float64 over blocks of coordinates in a fixed order, so
the memory beside the updates is one block, and the bits depend on the group alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.median import coordinate_median, network
from hpcfsl.native import columns

# Coordinates handled together: a block of 50 clients in float64 is 6 MB.
BLOCK = 16_384
# Squared distances below this share of the squared lengths are rounding: distances a millionth of the lengths.
_COPY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The geometry of finite first model updates, in float64.

    Attributes:
        center_norm: Norm of the coordinate median.
        norms: Norm of each update as uploaded, before any clip by the aggregator, [clients].
        lengths: Norm of each update as scored, [clients].
        center_products: Inner product of each update with the coordinate median, [clients].
        gram: Inner products of the updates less the coordinate median, [clients, clients].
    """

    center_norm: float
    norms: NDArray[np.float64]
    lengths: NDArray[np.float64]
    center_products: NDArray[np.float64]
    gram: NDArray[np.float64]

    @property
    def center_distances(self) -> NDArray[np.float64]:
        """Distance of each update to the coordinate median, [clients]."""
        return np.sqrt(np.diagonal(self.gram))

    @property
    def center_cosines(self) -> NDArray[np.float64]:
        """Cosine of each update and the coordinate median, [clients]; 0 where either is zero."""
        scale = self.lengths * self.center_norm
        cosine = np.divide(self.center_products, scale, out=np.zeros_like(scale), where=scale > 0)
        return np.clip(cosine, -1.0, 1.0)

    @property
    def pair_distances(self) -> NDArray[np.float64]:
        """Distance between each two updates, [clients, clients]; exactly 0 between copies."""
        square = np.diagonal(self.gram)
        lengths = square[:, None] + square[None, :]
        square = lengths - 2.0 * self.gram
        # Copies cancel but for rounding, and what rounding leaves must not be compared with anything.
        return np.sqrt(np.where(square > _COPY * lengths, square, 0.0))


def collect_evidence(updates: torch.Tensor, norms: NDArray[np.float64]) -> Evidence:
    """Return the geometry of a group.

    Args:
        updates: Finite first model updates (or one half of them), float32 [clients, params], clients in id order.
        norms: Their norms before any clip by the aggregator, float64 [clients].
    """
    rows = columns.rows_of(updates)
    if rows is not None:
        center_products, square, products, center = columns.geometry(rows, network(len(rows)))
        return Evidence(
            center_norm=sqrt(center),
            norms=norms,
            lengths=np.sqrt(square),
            center_products=center_products,
            gram=products,
        )
    return _collect_by_blocks(updates, norms)


def _collect_by_blocks(updates: torch.Tensor, norms: NDArray[np.float64]) -> Evidence:
    """Return the geometry of a group; the same as the kernel's up to rounding."""
    count, size = updates.shape
    gram = torch.zeros(count, count, dtype=torch.float64, device=updates.device)
    products, squares = gram.new_zeros(count), gram.new_zeros(count)
    center_square = gram.new_zeros(())
    for first in range(0, size, BLOCK):
        block = updates[:, first : first + BLOCK]
        center, block = coordinate_median(block).double(), block.double()
        products += block @ center
        squares += block.square().sum(dim=1)
        center_square += center.square().sum()
        centred = block.sub_(center)
        gram += centred @ centred.T
    return Evidence(
        center_norm=float(center_square.sqrt()),
        norms=norms,
        lengths=squares.sqrt().cpu().numpy(),
        center_products=products.cpu().numpy(),
        gram=gram.cpu().numpy(),
    )
