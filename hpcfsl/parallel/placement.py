"""Which rank hosts which group in a round: longest predicted work first, to the rank with the least so far.

Placement bears on speed alone; no result depends on it. More ranks than groups leaves ranks without a group, which
still take part in every collective.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray


def place_groups(costs: NDArray[np.int64], ranks: int) -> NDArray[np.int64]:
    """Return the rank of each group, int64 [groups], from predicted costs, int64 [groups]."""
    placed = np.zeros(len(costs), np.int64)
    loads = [(0, rank) for rank in range(ranks)]
    for group in np.lexsort((np.arange(len(costs)), -costs)):
        load, rank = heapq.heappop(loads)
        placed[group] = rank
        heapq.heappush(loads, (load + int(costs[group]), rank))
    return placed
