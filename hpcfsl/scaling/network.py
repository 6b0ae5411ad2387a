"""What collectives cost, as amounts of start-ups and bytes: the alpha-beta model of a message.

Layer 4, numpy only. A message of n bytes takes alpha + n * beta (Hockney, Parallel Computing 20, 1994). Collectives
follow Thakur, Rabenseifner and Gropp (Optimization of Collective Communication Operations in MPICH, IJHPCA 2005): a
large Allreduce is a reduce-scatter and an allgather, 2 ceil(log2 P) start-ups and 2 (P - 1) / P of the bytes. On
several nodes every collective works in two levels, inside the nodes and, each rank with its share of the bytes, between
them (Traeff and Hunold, Decomposing MPI Collectives for Exploiting Multi-lane Communication, CLUSTER 2020): a node's
network card then carries the vector once, however many ranks the node has. A library that does worse is slower.

Rates: `inside.alpha` and `inside.beta` between ranks of a node, `between.alpha` and `between.beta` between nodes,
where beta is that of the node's card. Where ranks share cores, their copies take turns (`Cluster.copying`), and a
message waits until its receiver has a core: `inside.switch`.
"""

from __future__ import annotations

from collections import Counter
from math import ceil, log2

from hpcfsl.scaling.cluster import Cluster

Amounts = Counter[str]
SHORT_BYTES = 16_384
"""Vectors up to this size are summed by recursive doubling: half as many start-ups, all the bytes in each."""


def allreduce(size: float, cluster: Cluster) -> Amounts:
    """Return the amounts of summing a vector of `size` bytes onto all ranks."""
    if size <= SHORT_BYTES:
        return _levels(
            cluster, startups=1.0, inside=size * _rounds(cluster.on_node), between=size * _rounds(cluster.nodes)
        )
    inside, between = 2 * size * _others(cluster.on_node), 2 * size * _others(cluster.nodes)
    return _levels(cluster, startups=2.0, inside=inside, between=between)


def scattered(size: float, cluster: Cluster) -> Amounts:
    """Return the amounts of one half of it: the sum, a slice on each rank; or slices, all of them on each rank."""
    inside, between = size * _others(cluster.on_node), size * _others(cluster.nodes)
    return _levels(cluster, startups=1.0, inside=inside, between=between)


def gather_all(size: float, cluster: Cluster) -> Amounts:
    """Return the amounts of giving all ranks the `size` bytes that the ranks have together.

    Objects travel as pickles: their sizes first, then the bytes.
    """
    if cluster.ranks == 1:
        return Counter()
    return _levels(cluster, startups=2.0, inside=size, between=size * _others(cluster.nodes))


def gather_root(size: float, cluster: Cluster) -> Amounts:
    """Return the amounts of giving root the `size` bytes that the ranks have together."""
    if cluster.ranks == 1:
        return Counter()
    alone = size / cluster.copying  # one rank copies while the others have nothing to do
    return _levels(cluster, startups=2.0, inside=alone, between=size * _others(cluster.nodes))


def exchange(sent: float, cluster: Cluster) -> Amounts:
    """Return the amounts of every rank sending `sent` bytes, an equal part to each rank."""
    ranks, on_node = cluster.ranks, cluster.on_node
    away = (ranks - on_node) / ranks
    return Counter(
        {
            "inside.alpha": on_node - 1.0,
            "inside.switch": (on_node - 1.0) * (cluster.sharing - 1.0),
            "between.alpha": float(ranks - on_node),
            "inside.beta": sent * (on_node - 1) / ranks * cluster.copying,
            "between.beta": sent * on_node * away,
        }
    )


def barrier(cluster: Cluster) -> Amounts:
    """Return the amounts of waiting for each other, or of a few bytes."""
    return _levels(cluster, startups=1.0, inside=0.0, between=0.0)


def _levels(cluster: Cluster, *, startups: float, inside: float, between: float) -> Amounts:
    return Counter(
        {
            "inside.alpha": startups * _rounds(cluster.on_node),
            "inside.switch": startups * _rounds(cluster.on_node) * (cluster.sharing - 1.0),
            "between.alpha": startups * _rounds(cluster.nodes),
            "inside.beta": inside * cluster.copying,
            "between.beta": between,
        }
    )


def _rounds(count: int) -> int:
    return ceil(log2(count))


def _others(count: int) -> float:
    return (count - 1) / count
