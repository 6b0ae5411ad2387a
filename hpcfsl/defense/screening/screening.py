"""The seam for screening, and what all rules share: data that are not finite, small groups, the threshold.

A rule says of each client by how many robust standard deviations its smashed data of one pass lie above the group's
median. Clients above `k` are left out, strictly less than `max_excluded` of them. Smashed data or number targets with
NaN or infinity are always left out and bear on nobody else; fewer than three clients cannot accuse each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.median import median_of
from hpcfsl.defense.threshold.threshold import lowest_allowed
from hpcfsl.settings import Registry, Settings

# Below this nobody is left out but for data that are not finite.
FEWEST = 3
# Scores end here, so that finite data never look like data that are not.
_MOST = 1e6
_NORMAL = 1.4826  # MAD of a normal distribution, times this, is its standard deviation


@dataclass(frozen=True, kw_only=True)
class FirstPass:
    """What the server half of a group receives from its clients before its first step, clients one after another.

    Attributes:
        smashed: Smashed data, float [sum(counts), *smashed_shape].
        counts: Samples of each client, int64 [clients], each at least 1.
        labels: Targets of the samples where the server holds them, else None: classes, int64 [sum(counts)]; symbols,
            int64 [sum(counts), positions]; or numbers, float [sum(counts), outputs].
    """

    smashed: torch.Tensor
    counts: NDArray[np.int64]
    labels: torch.Tensor | None

    @property
    def owners(self) -> torch.Tensor:
        """Row of the client of each sample, int64 [sum(counts)]."""
        return torch.from_numpy(np.repeat(np.arange(len(self.counts)), self.counts)).to(self.smashed.device)

    def finite(self) -> NDArray[np.bool_]:
        """Return whose data are finite throughout, bool [clients]."""
        good = torch.isfinite(self.smashed.flatten(1)).all(dim=1)
        if self.labels is not None and self.labels.is_floating_point():
            good &= torch.isfinite(self.labels.flatten(1)).all(dim=1)
        bad = np.bincount(self.owners[~good].cpu().numpy(), minlength=len(self.counts))
        return np.asarray(bad == 0)

    def choose(self, clients: NDArray[np.bool_]) -> FirstPass:
        """Return the data of some of the clients, chosen by bool [clients]."""
        if clients.all():
            return self
        rows = torch.from_numpy(np.repeat(clients, self.counts)).to(self.smashed.device)
        labels = None if self.labels is None else self.labels[rows]
        return FirstPass(smashed=self.smashed[rows], counts=self.counts[clients], labels=labels)


@dataclass(frozen=True, kw_only=True)
class Screened:
    """The outcome of screening in one group, arrays [clients].

    Attributes:
        used: Whose smashed data the server trains on, bool.
        scores: Robust standard deviations above the group's median, float64, at least 0; +inf for data that are not
            finite, 0 where the rule compared nobody.
        threshold: Clients with a score above it are not used.
    """

    used: NDArray[np.bool_]
    scores: NDArray[np.float64]
    threshold: float


class Screening(Settings):
    """A rule for whose smashed data a shared server half trains on (section `[screening]`)."""

    rule: str

    @property
    def compares(self) -> bool:
        """Whether the rule looks at smashed data at all."""
        return False

    @property
    def needs_labels(self) -> bool:
        """Whether the rule can judge nobody without labels at the server."""
        return False

    def measure(self, data: FirstPass) -> NDArray[np.float64]:
        """Return the scores of three or more clients with finite data, float64 [clients]; `Screened` says which."""
        raise AssertionError("a rule that compares defines measure")

    def threshold(self, scores: NDArray[np.float64]) -> float:
        """Return the number above which a client is left out, for the scores of clients with finite data."""
        return float(np.inf)


class Comparison(Screening):
    """What all rules that compare clients share: their threshold."""

    k: float = Field(3.0, gt=0, le=100)
    """Robust standard deviations above the median."""
    floor: float = Field(0.05, gt=0, le=10)
    """Least deviation that the rule reckons with, in its own unit: nearly equal clients must not be left out."""
    max_excluded: float = Field(0.5, gt=0, le=0.5)
    """Strictly less than this share of a group's clients is left out, by raising the threshold."""

    @property
    def compares(self) -> bool:
        """True."""
        return True

    def threshold(self, scores: NDArray[np.float64]) -> float:
        """Return `k`, or what leaves enough clients."""
        return max(self.k, lowest_allowed(scores, self.max_excluded))

    def standardise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return by how many robust deviations each value is above the median, at least 0; NaN counts as the median."""
        known = values[~np.isnan(values)]
        if not len(known):
            return np.zeros(len(values))
        median = median_of(known)
        deviation = _NORMAL * max(median_of(np.abs(known - median)), self.floor)
        return np.clip(np.nan_to_num((values - median) / deviation), 0.0, _MOST)


screenings: Registry[Screening] = Registry("screening", default="none")


def screen(rule: Screening, data: FirstPass) -> Screened:
    """Return whose smashed data a group's shared server half trains on.

    The order of the clients is no matter, and neither is a constant added to everybody's smashed data.

    Args:
        rule: The rule.
        data: What the clients sent, clients in id order.
    """
    finite = data.finite()
    scores = np.where(finite, 0.0, np.inf)
    if rule.compares and finite.sum() >= FEWEST:
        scores[finite] = rule.measure(data.choose(finite))
    threshold = rule.threshold(scores[finite])
    return Screened(used=finite & (scores <= threshold), scores=scores, threshold=threshold)
