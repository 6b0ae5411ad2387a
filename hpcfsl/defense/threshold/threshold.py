"""The seam for thresholds, and the exclusion that follows from one."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.settings import Registry, Settings


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """The outcome of the threshold in one group.

    Attributes:
        raw_threshold: What the rule said; +inf where it excludes nobody by definition.
        threshold: What was applied: raised where the rule would have excluded too many.
        kept: Clients that remain, bool [clients].
    """

    raw_threshold: float
    threshold: float
    kept: NDArray[np.bool_]


class Threshold(Settings):
    """A rule for the dynamic score threshold `tau_g` of a group (section `[threshold]`)."""

    rule: str
    scope: Literal["group", "pooled", "memory"] = "group"
    """Whose scores the rule sees: the group's own; those of all groups this round (a rank then holds its groups'
    updates until all are scored); or the group's own and those of all groups in the last `window` rounds."""
    window: int = Field(5, ge=1, le=1000)
    """Rounds that `scope = "memory"` looks back."""
    max_excluded: float = Field(0.5, gt=0, le=1)
    """Strictly less than this share of a group is excluded, by raising the threshold; 1 sets no limit."""

    def compute(self, scores: NDArray[np.float64]) -> float:
        """Return the raw threshold for finite scores, float64 [clients], at least one."""
        raise AssertionError("every threshold defines compute")


thresholds: Registry[Threshold] = Registry("threshold", default="mad")


def exclude(rule: Threshold, credit: NDArray[np.float64], pool: NDArray[np.float64] | None = None) -> Exclusion:
    """Return who is excluded from one group (P6): exactly those with a score above the threshold, strictly.

    Args:
        rule: The threshold rule.
        credit: The group's credit scores, float64 [clients]; +inf is always excluded and bears on nothing.
        pool: The scores that the rule sees; None for the group's own.
    """
    finite = credit[np.isfinite(credit)]
    seen = finite if pool is None else pool[np.isfinite(pool)]
    # One client alone, or none, gives no scale to judge by.
    raw = float(rule.compute(seen)) if len(finite) > 1 else np.inf
    effective = max(raw, lowest_allowed(finite, rule.max_excluded))
    return Exclusion(raw_threshold=raw, threshold=effective, kept=np.isfinite(credit) & (credit <= effective))


def lowest_allowed(finite: NDArray[np.float64], max_excluded: float) -> float:
    """Return the lowest threshold that excludes less than the allowed share of clients with finite scores."""
    # Two clients can only accuse each other, so a group of two excludes nobody whatever the share.
    limit = len(finite) if max_excluded == 1 else ceil(max_excluded * len(finite)) - 1
    if len(finite) <= 2:
        limit = 0
    if limit >= len(finite):
        return -np.inf
    return float(np.sort(finite)[len(finite) - 1 - limit])
