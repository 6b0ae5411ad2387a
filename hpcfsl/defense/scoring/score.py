"""The seam for scores, and what all of them share: the half that is scored, non-finite updates, memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.median import median_of
from hpcfsl.defense.scoring.evidence import Evidence, collect_evidence
from hpcfsl.models.layout import Layout
from hpcfsl.settings import Registry, Settings

# Ratios to a group's median are capped here: a median of zero must not make an infinite, that is non-finite, score.
RATIO_CAP = 1e6


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The credit scores of a group.

    Attributes:
        credit: Higher is more suspicious; +inf for a non-finite update; float64 [clients].
        components: What the score was made from, float64 [clients, components]; NaN for a non-finite update.
    """

    credit: NDArray[np.float64]
    components: NDArray[np.float64]


class Score(Settings):
    """A rule that turns a group's first model updates into credit scores (section `[score]`)."""

    rule: str
    half: Literal["both", "client", "server"] = "both"
    """Which half of the update is scored. Label poison enters through the server half."""
    memory: float = Field(0.0, ge=0, lt=1)
    """Share of a client's earlier score in its credit score: exponential averaging over the rounds it took part in."""

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the score's components, in the order of their columns."""
        return (self.rule,)

    @property
    def compares(self) -> bool:
        """Whether updates are compared with each other; without that every score is 1."""
        return True

    def measure(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return the components of two or more finite updates, float64 [clients, components], each at least 0."""
        raise AssertionError("every score defines measure")

    def combine(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one score a client from its components, float64 [clients]."""
        return np.asarray(components[:, 0])


scores: Registry[Score] = Registry("score", default="composite")


def score_group(
    score: Score,
    updates: torch.Tensor,
    norms: NDArray[np.float64],
    remembered: NDArray[np.float64],
    layout: Layout,
) -> Scores:
    """Return the credit scores of one group (P2 step 3).

    Args:
        score: The rule.
        updates: First model updates, float32 [clients, params], clients in id order.
        norms: Their norms before any clip by the aggregator, float64 [clients]; not finite where the update is not.
        remembered: Each client's last credit score, NaN where it has none, float64 [clients].
        layout: Where the halves are.
    """
    finite = np.isfinite(norms)
    names = score.component_names
    credit, components = np.full(len(finite), np.inf), np.full((len(finite), len(names)), np.nan)
    chosen = _half(score, updates, layout)
    if not finite.all() and score.compares:
        chosen = chosen[torch.from_numpy(finite)]
    components[finite] = _measure(score, chosen, norms[finite])
    credit[finite] = score.combine(components[finite])
    known = finite & np.isfinite(remembered)
    credit[known] = (1 - score.memory) * credit[known] + score.memory * remembered[known]
    return Scores(credit=credit, components=components)


def over_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values over their median, at most `RATIO_CAP`; all ones where they are all zero, as equals are."""
    median = median_of(values)
    if median > 0:
        with np.errstate(over="ignore"):  # over a denormal median; the cap takes care of it
            return np.minimum(values / median, RATIO_CAP)
    return np.where(values > 0, RATIO_CAP, 1.0)


def _measure(score: Score, updates: torch.Tensor, norms: NDArray[np.float64]) -> NDArray[np.float64]:
    # One client has nobody to differ from: it is ordinary by definition.
    if len(updates) < 2 or not score.compares:
        return np.ones((len(norms), len(score.component_names)))
    return score.measure(collect_evidence(updates, norms))


def _half(score: Score, updates: torch.Tensor, layout: Layout) -> torch.Tensor:
    cut = {"both": slice(None), "client": slice(0, layout.client_size), "server": slice(layout.client_size, None)}
    return updates[:, cut[score.half]]
