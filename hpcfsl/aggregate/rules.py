"""The built-in rules across groups.

`weighted` is the plain mean: choose it for attack-free runs and baselines, because one captured group moves it as far
as it likes. `geometric-median` (Pillutla et al., RFA, IEEE TSP 2022) bears nearly half the mass captured and is the
default. `centred-clipping` (Karimireddy et al., ICML 2021) clips every group's step from the last update; strong with
many groups, but attacks exist that aim at its memory. `coordinate-median` ignores masses and needs many groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.aggregate.across import GlobalAggregation, GroupMasses, TargetUpdate, global_aggregations
from hpcfsl.aggregate.geometry import exchange_slices, gather_slices
from hpcfsl.defense.median import coordinate_median
from hpcfsl.parallel.communicator import Communicator


@global_aggregations.register
class WeightedMean(GlobalAggregation):
    """The mean of the second model updates, weighted by mass."""

    rule: Literal["weighted"] = "weighted"

    def weigh(self, masses: NDArray[np.float64], distances: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the masses."""
        return masses


@global_aggregations.register
class GeometricMedian(GlobalAggregation):
    """The point with the least mass-weighted sum of distances to the second model updates (Weiszfeld's algorithm)."""

    rule: Literal["geometric-median"] = "geometric-median"
    max_iterations: int = Field(1000, ge=1, le=100_000)
    """Upper limit on the iterations."""
    tolerance: float = Field(1e-9, gt=0, lt=1)
    """Stop once no factor moves by more than this."""

    @property
    def needs_distances(self) -> bool:
        """True."""
        return True

    def weigh(self, masses: NDArray[np.float64], distances: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the barycentric weights of the geometric median."""
        assert distances is not None
        between = distances[:-1, :-1]
        factors = masses
        # A tiny share of the spread keeps the step finite where the median meets one of the points.
        least = 1e-12 * float(between.max()) + np.finfo(float).tiny
        for _ in range(self.max_iterations):
            square = np.maximum(between @ factors - 0.5 * float(factors @ between @ factors), 0.0)
            pulls = masses / np.sqrt(square + least)
            moved = pulls / pulls.sum()
            done = float(np.abs(moved - factors).max()) < self.tolerance
            factors = moved
            if done:
                break
        return factors


@global_aggregations.register
class CentredClipping(GlobalAggregation):
    """Start at the last target update and move by the mass-weighted mean of clipped differences to it."""

    rule: Literal["centred-clipping"] = "centred-clipping"
    radius: float = Field(0.0, ge=0, le=1e9)
    """Longest difference; 0 takes the median distance of the groups to the last target update each round."""

    @property
    def needs_distances(self) -> bool:
        """True."""
        return True

    def weigh(self, masses: NDArray[np.float64], distances: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return the groups' clipped masses and, last, the anchor's remainder."""
        assert distances is not None
        lengths = np.sqrt(distances[-1, :-1])
        radius = self.radius or float(np.median(lengths))
        clip = np.minimum(np.divide(radius, lengths, out=np.ones_like(lengths), where=lengths > 0), 1.0)
        factors = masses * clip
        return np.append(factors, 1.0 - factors.sum())


@global_aggregations.register
class CoordinateMedian(GlobalAggregation):
    """The median of the second model updates in every coordinate; every group counts the same."""

    rule: Literal["coordinate-median"] = "coordinate-median"
    masses: Literal["equal"] = "equal"
    """A median of coordinates knows no weights."""
    reduction: Literal["exact"] = "exact"
    """A median of coordinates adds nothing."""

    def aggregate(
        self,
        updates: Mapping[int, torch.Tensor],
        masses: GroupMasses,
        *,
        anchor: torch.Tensor,
        communicator: Communicator,
    ) -> TargetUpdate:
        """Collective. Return the median of every coordinate; groups have no factors in it."""
        slices = exchange_slices(updates, masses.groups, len(anchor), communicator)
        median = gather_slices(coordinate_median(slices.rows), communicator)
        return TargetUpdate(update=median, factors=np.full(len(masses.groups), np.nan))
