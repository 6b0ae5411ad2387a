"""Group operation: target update weights and first model updates give the second model update `U_g` (P2 step 7).

Section `[group_operation]`. Sums run over clients in id order in float64, so the result depends on the group alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.weighting import choose_rows
from hpcfsl.native import columns
from hpcfsl.settings import Registry, Settings


class GroupOperation(Settings):
    """A rule that makes one vector of a group's remaining first model updates."""

    rule: str

    def combine(self, updates: torch.Tensor, factors: NDArray[np.float64]) -> torch.Tensor:
        """Return the second model update, float32 [params].

        Args:
            updates: First model updates of the remaining clients, in id order, float32 [survivors, params].
            factors: Their factors from the target update weights, float64 [survivors].
        """
        raise AssertionError("every group operation defines combine")

    def combine_chosen(
        self, uploads: torch.Tensor, chosen: NDArray[np.bool_], factors: NDArray[np.float64]
    ) -> torch.Tensor:
        """Return the second model update from the chosen rows of a group, float32 [params].

        Args:
            uploads: First model updates of all clients, in id order, float32 [clients, params].
            chosen: The remaining clients, bool [clients].
            factors: The remaining clients' factors, float64 [survivors].
        """
        return self.combine(choose_rows(uploads, chosen), factors)


group_operations: Registry[GroupOperation] = Registry("group_operation", default="weighted-sum")


@group_operations.register
class WeightedSum(GroupOperation):
    """The sum of factor times update."""

    rule: Literal["weighted-sum"] = "weighted-sum"

    def combine(self, updates: torch.Tensor, factors: NDArray[np.float64]) -> torch.Tensor:
        """Return the weighted sum."""
        return self.combine_chosen(updates, np.ones(len(updates), np.bool_), factors)

    def combine_chosen(
        self, uploads: torch.Tensor, chosen: NDArray[np.bool_], factors: NDArray[np.float64]
    ) -> torch.Tensor:
        """Return the weighted sum; no row is copied."""
        rows = columns.rows_of(uploads)
        if rows is not None:
            return torch.from_numpy(columns.weighted_sum(rows, np.flatnonzero(chosen), factors))
        return _sum_rows(choose_rows(uploads, chosen), factors)


@group_operations.register
class TrimmedWeightedSum(GroupOperation):
    """The weighted sum with, in every coordinate, the extreme contributions replaced by the nearest kept one.

    A second line inside the group (winsorising): choose it where scores may miss several attackers in one group.
    """

    rule: Literal["winsorised-sum"] = "winsorised-sum"

    def combine(self, updates: torch.Tensor, factors: NDArray[np.float64]) -> torch.Tensor:
        """Return the weighted sum of updates clamped, coordinate by coordinate, between their inner quartiles."""
        trim = len(updates) // 4
        ordered = updates.sort(dim=0).values
        clamped = updates.clamp(ordered[trim], ordered[len(updates) - 1 - trim])
        return WeightedSum().combine(clamped, factors)


def _sum_rows(updates: torch.Tensor, factors: NDArray[np.float64]) -> torch.Tensor:
    total = torch.zeros(updates.shape[1], dtype=torch.float64, device=updates.device)
    for update, factor in zip(updates, factors, strict=True):
        total.add_(update.double(), alpha=float(factor))
    return total.float()
