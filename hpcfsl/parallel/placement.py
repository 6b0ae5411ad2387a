"""Which rank hosts which group in a round: longest predicted work first, to the rank with the least so far.

The other rule hands the groups round, one rank further each round: choose it to see that results do not depend on
where a group is trained, or where the predicted work is nothing like the real one.

Placement bears on speed alone; no result depends on it. More ranks than groups leaves ranks without a group, which
still take part in every collective.
"""

from __future__ import annotations

import heapq
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Placement = Literal["longest-first", "rotating"]


def place(rule: Placement, costs: NDArray[np.int64], ranks: int, round: int) -> NDArray[np.int64]:
    """Return the rank of each group in a round by `run.placement`, int64 [groups]; costs as for `place_groups`."""
    if rule == "rotating":
        return (np.arange(len(costs), dtype=np.int64) + round) % ranks
    return place_groups(costs, ranks)


def place_groups(costs: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """Return the rank of each group, int64 [groups], from predicted costs, int64 [groups]."""
    placed = np.zeros(len(costs), np.int64)
    loads = [(0, rank) for rank in range(ranks)]
    for group in np.lexsort((np.arange(len(costs)), -costs)):
        load, rank = heapq.heappop(loads)
        placed[group] = rank
        heapq.heappush(loads, (load + int(costs[group]), rank))
    return placed
