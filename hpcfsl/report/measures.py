"""How well attackers were told from honest clients, and other sums over a trace. numpy only.

`excluded` counts what the threshold excluded, updates that were not finite, and clients that were screened out.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.schema import find_column

_STATUS = find_column("participation", "status").flags
_LOST = _STATUS.index("lost")
_OUT = [_STATUS.index(name) for name in ("excluded", "non-finite", "screened")]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Client rounds by truth and outcome."""

    attackers: int
    attackers_excluded: int
    honest: int
    honest_excluded: int

    @property
    def true_positive(self) -> float:
        """Share of attackers' updates that were excluded; NaN without attackers."""
        return self.attackers_excluded / self.attackers if self.attackers else float("nan")

    @property
    def false_positive(self) -> float:
        """Share of honest clients' updates that were excluded; NaN without honest clients."""
        return self.honest_excluded / self.honest if self.honest else float("nan")


def excluded(status: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which updates were left out for what they are, [rows]."""
    return np.isin(status, _OUT)


def arrived(status: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return which uploads reached their group in time, [rows]."""
    return np.asarray(status != _LOST)


def rates(attacker: NDArray[Any], out: NDArray[np.bool_]) -> Rates:
    """Count client rounds; `attacker` and `out` are [rows]."""
    bad = attacker == 1
    return Rates(
        attackers=int(bad.sum()),
        attackers_excluded=int((bad & out).sum()),
        honest=int((~bad).sum()),
        honest_excluded=int((~bad & out).sum()),
    )


def roc_auc(scores: NDArray[np.float64], attacker: NDArray[Any]) -> float:
    """Return the chance that an attacker scores above an honest client, ties counting half; NaN where one is missing.

    1 is a perfect order, 0.5 a coin. It is the area under the curve of true over false positives as the threshold
    moves (Mann and Whitney, 1947), so it judges the score and leaves the threshold out of it. +inf ranks
    highest.
    """
    known = ~np.isnan(scores)
    values, bad = scores[known], attacker[known] == 1
    num_bad, num_good = int(bad.sum()), int((~bad).sum())
    if not num_bad or not num_good:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[bad].sum() - num_bad * (num_bad + 1) / 2) / (num_bad * num_good))


def rows_by_round(rounds: NDArray[Any], num_rounds: int) -> list[slice]:
    """Return the rows of each round 0, 1, ... of a table sorted by round."""
    edges = np.searchsorted(rounds, np.arange(num_rounds + 1))
    return [slice(int(start), int(stop)) for start, stop in itertools.pairwise(edges)]


def spread(values: NDArray[np.float64], rows: list[slice]) -> NDArray[np.float64]:
    """Return the 10th, 50th and 90th percentile of the finite values of each round, [3, rounds]; NaN where none."""
    found = np.full((3, len(rows)), np.nan)
    for number, part in enumerate(rows):
        known = values[part][np.isfinite(values[part])]
        if known.size:
            found[:, number] = np.percentile(known, (10, 50, 90))
    return found


def sample(size: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the numbers below `size`, sorted, the same every time.

    A drawn sample, not every n-th: a stride that divides the number of clients would show the same few in each round.
    """
    if size <= limit:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, limit, replace=False))


def evenly(size: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` numbers below `size`, evenly apart, with the first and the last."""
    return np.unique(np.linspace(0, max(size - 1, 0), min(size, limit)).round().astype(np.int64))
