"""The seam for aggregation across groups: the `U_g` become the target update of the global model (P2 step 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.aggregate.geometry import exchange_slices, pair_distances
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.settings import Registry, Settings


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
        update: float64 [params].
        factors: Weight of each group in it, float64 [groups]; NaN where the rule has none.
    """

    update: torch.Tensor
    factors: NDArray[np.float64]


class GlobalAggregation(Settings):
    """A rule across groups (section `[global_aggregation]`)."""

    rule: str
    masses: Literal["survivors", "equal"] = "survivors"
    """Weight of a group before the rule: what its remaining clients weigh, or the same for all."""

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
        total = exact_weighted_sum(
            [row for row, _ in terms],
            [factor for _, factor in terms],
            size=len(anchor),
            planned_groups=masses.planned + 1,
            communicator=communicator,
        )
        return TargetUpdate(update=total, factors=factors[: len(masses.groups)])

    def normalise(self, masses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the groups' weights before the rule, summing to 1, float64 [groups]."""
        weights = np.ones_like(masses) if self.masses == "equal" else masses
        return np.asarray(weights / weights.sum())


global_aggregations: Registry[GlobalAggregation] = Registry("global_aggregation", default="geometric-median")
