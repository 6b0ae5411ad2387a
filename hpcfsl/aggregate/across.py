"""The seam for aggregation across groups: the `U_g` become the target update of the global model (P2 step 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.aggregate.geometry import exchange_slices, pair_distances
from hpcfsl.aggregate.plain import float32_weighted_sum, sampled_difference
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.settings import Registry, Settings

FLOAT32_WARNING = (
    "global_aggregation.reduction is float32: the bits, and so the digest, depend on the number of ranks, on who hosts "
    "which group and on the MPI library; column reduction_difference says by how much"
)


@dataclass(frozen=True, kw_only=True)
class GroupMasses:
    """Every group that takes part in the global update, the same on every rank.

    Attributes:
        groups: Group numbers, ascending.
        masses: Their weights, positive, not normalised, float64 [groups].
        planned: Groups of the round's plan, those that dropped out included.
    """

    groups: tuple[int, ...]
    masses: NDArray[np.float64]
    planned: int


@dataclass(frozen=True, kw_only=True)
class TargetUpdate:
    """The target update of the global model.

    Attributes:
        update: float32 [params].
        factors: Weight of each group in it, float64 [groups]; NaN where the rule has none.
        difference: How far a float32 sum is from the exact one (`hpcfsl.aggregate.plain`); NaN for the exact one.
    """

    update: torch.Tensor
    factors: NDArray[np.float64]
    difference: float = math.nan


class GlobalAggregation(Settings):
    """A rule across groups (section `[global_aggregation]`)."""

    rule: str
    masses: Literal["survivors", "equal"] = "survivors"
    """Weight of a group before the rule: what its remaining clients weigh, or the same for all."""
    reduction: Literal["exact", "float32"] = "exact"
    """Sum over groups and ranks: in fixed point, the same bits on any number of ranks; or a plain MPI Allreduce in
    float32, which moves half the bytes and whose bits depend on the number of ranks and on who hosts which group."""

    def weigh(self, masses: NDArray[np.float64], distances: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """Return each group's factor in the update, float64 [groups] or [groups + 1] with the anchor's.

        Args:
            masses: Weights that sum to 1, float64 [groups].
            distances: Squared distances of groups and, last, the anchor; None unless `needs_distances`.
        """
        raise AssertionError("every global aggregation defines weigh or aggregate")

    @property
    def needs_distances(self) -> bool:
        """Whether `weigh` looks at distances."""
        return False

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a run under these settings cannot promise, one sentence each."""
        return (FLOAT32_WARNING,) if self.reduction == "float32" else ()

    def aggregate(
        self,
        updates: Mapping[int, torch.Tensor],
        masses: GroupMasses,
        *,
        anchor: torch.Tensor,
        communicator: Communicator,
    ) -> TargetUpdate:
        """Collective. Return the target update of at least one group.

        Args:
            updates: Second model updates of the groups on this rank, finite, float32 [params] each.
            masses: All groups that take part.
            anchor: The last target update, float32 [params]; zeros in the first round.
            communicator: The ranks.
        """
        distances = None
        if self.needs_distances:
            slices = exchange_slices(updates, masses.groups, len(anchor), communicator)
            distances = pair_distances(slices, anchor, communicator)
        factors = self.weigh(self.normalise(masses.masses), distances)
        terms = [(updates[group], factors[row]) for row, group in enumerate(masses.groups) if group in updates]
        if len(factors) > len(masses.groups) and communicator.rank == 0:
            terms.append((anchor, factors[-1]))
        total, difference = self._add(terms, len(anchor), masses.planned + 1, communicator)
        return TargetUpdate(update=total, factors=factors[: len(masses.groups)], difference=difference)

    def normalise(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the groups' weights before the rule, summing to 1, float64 [groups]."""
        weights = np.ones_like(masses) if self.masses == "equal" else masses
        return np.asarray(weights / weights.sum())

    def _add(
        self, terms: list[tuple[torch.Tensor, float]], size: int, planned: int, communicator: Communicator
    ) -> tuple[torch.Tensor, float]:
        """Collective. Return the sum of factor times row over all ranks, and how far it is from the exact one."""
        rows, factors = [row for row, _ in terms], [factor for _, factor in terms]
        if self.reduction == "exact":
            exact = exact_weighted_sum(
                rows, factors, size=size, planned_groups=planned, communicator=communicator, single=True
            )
            return exact, math.nan
        total = float32_weighted_sum(rows, factors, size=size, communicator=communicator)
        return total, sampled_difference(total, rows, factors, planned_groups=planned, communicator=communicator)


global_aggregations: Registry[GlobalAggregation] = Registry("global_aggregation", default="geometric-median")
