"""The machine of the cost model: how many ranks, on how many nodes, with how many cores; and how ranks share cores.

Layer 4, numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the ranks run.

    Attributes:
        ranks: All ranks.
        ranks_per_node: Ranks of a full node; ranks fill one node after the other.
        cores_per_node: Cores that the ranks of a node share.
        saturating_ranks: Ranks of a node whose copies at once use up its memory bandwidth; more share it.
    """

    ranks: int
    ranks_per_node: int
    cores_per_node: int
    saturating_ranks: float = math.inf

    @property
    def on_node(self) -> int:
        """Ranks on the fullest node."""
        return min(self.ranks, self.ranks_per_node)

    @property
    def nodes(self) -> int:
        """Nodes with a rank."""
        return -(-self.ranks // self.ranks_per_node)

    @property
    def sharing(self) -> float:
        """How many ranks share one core while all ranks work, at least 1."""
        return max(1.0, self.on_node / self.cores_per_node)

    @property
    def busy(self) -> float:
        """Share of a node's cores beyond the first that work while all ranks do, from 0 to 1."""
        return (min(self.on_node, self.cores_per_node) - 1) / max(1, self.cores_per_node - 1)

    @property
    def copying(self) -> float:
        """Factor on copies through the node's memory while all ranks copy, at least 1."""
        return max(self.sharing, self.on_node / self.saturating_ranks)


def one_node(ranks: int, cores: int) -> Cluster:
    """Return `ranks` ranks on one node."""
    return Cluster(ranks=ranks, ranks_per_node=ranks, cores_per_node=cores)


def shared_seconds(work: NDArray[np.float64], cluster: Cluster) -> float:
    """Return when the last rank is done, where the ranks of a node share its cores evenly.

    Processor sharing: while k ranks of a node still work on c cores, each goes on at min(1, c / k) of a core's speed,
    and a rank that is done leaves its share to the others. For equal work this is work * ranks / min(ranks, cores).

    Args:
        work: Seconds of each rank's work on a core of its own, float64 [ranks].
        cluster: Where the ranks run.
    """
    step, cores = cluster.ranks_per_node, cluster.cores_per_node
    return max(_node_seconds(np.sort(work[first : first + step]), cores) for first in range(0, len(work), step))


def _node_seconds(ascending: NDArray[np.float64], cores: int) -> float:
    working = np.arange(len(ascending), 0, -1)
    return float((np.diff(ascending, prepend=0.0) * np.maximum(1.0, working / cores)).sum())


def slowest_of(count: int) -> float:
    """Return the expected largest of `count` independent standard normal numbers.

    Blom's approximation (Statistical Estimates and Transformed Beta-Variables, 1958); it grows like sqrt(2 ln count).
    """
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
