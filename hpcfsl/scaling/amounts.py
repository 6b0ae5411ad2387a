"""What a round does, in counts: the amounts of the cost model, stage by stage.

Layer 4, numpy only. Names say whose rate an amount is multiplied with: `score.element` is a client's parameter that is
scored, `inside.beta` a byte between ranks of a node. What every rank does alike, such as hashing the model, counts as
often as ranks share a core; what root does alone counts once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.aggregate.exact import BLOCK as EXPONENT_BLOCK
from hpcfsl.aggregate.geometry import BLOCK as SLICE_BLOCK
from hpcfsl.parallel.placement import place_groups
from hpcfsl.scaling import network
from hpcfsl.scaling.cluster import Cluster, shared_seconds
from hpcfsl.scaling.network import Amounts
from hpcfsl.scaling.workload import Workload

STAGES = ("train", "pool", "sum", "gather", "aggregate", "evaluate", "record")
Reduction = Literal["int64", "float32", "sharded"]

# Bytes of a client's score; of what is remembered of it, which goes to its host and back; of its rows of the trace.
_SCORE_BYTES, _STATE_BYTES, _ROW_BYTES = 8, 24, 700


@dataclass(frozen=True, kw_only=True)
class Options:
    """Designs to compare with what the program does, which is the default.

    Attributes:
        reduction: The sum over ranks: exact in int64, plain in float32, or exact and sharded (each rank turns its slice
            of the sum into the new model, and the ranks gather float32 slices).
        block: Coordinates whose distances are made together, by one rank.
    """

    reduction: Reduction = "int64"
    block: int = SLICE_BLOCK


def train_amounts(work: Workload) -> list[Amounts]:
    """Return the amounts of training, one a group."""
    passes = work.samples * work.epochs
    name = f"train.{work.family}"
    return [
        Counter(
            {
                f"{name}.group": 1.0,
                f"{name}.client": float(clients),
                f"{name}.step": float(steps),
                f"{name}.flop": 3.0 * seen * work.sample_flops,
                f"{name}.update": float(steps) * work.params,
            }
        )
        for clients, steps, seen in zip(work.clients, work.steps, passes, strict=True)
    ]


def score_amounts(work: Workload) -> list[Amounts]:
    """Return the amounts of scoring, one a group."""
    return [
        Counter({"score.group": 1.0, "score.client": float(n), "score.element": float(n) * work.params})
        for n in work.clients
    ]


def sum_amounts(work: Workload) -> list[Amounts]:
    """Return the amounts of excluding, weighing and summing, one a group."""
    return [
        Counter({"sum.group": 1.0, "sum.client": float(n), "sum.element": float(n) * work.params}) for n in work.clients
    ]


def stage_amounts(work: Workload, cluster: Cluster, options: Options | None = None) -> dict[str, Amounts]:
    """Return, by stage, the amounts of what is not training, scoring and summing groups."""
    clients = float(work.clients.sum())
    shared = cluster.sharing
    parts: dict[str, list[Amounts]] = {stage: [] for stage in STAGES}
    parts["train"] = [Counter({"plan.round": shared, "plan.client": clients * shared}), network.barrier(cluster)]
    if work.pooled:
        parts["pool"] = [
            _objects(clients * _SCORE_BYTES, cluster),
            Counter({"pool.client": clients * shared, "commit.byte": 2 * _spilled(work, cluster)}),
        ]
    parts["gather"] = [
        _objects(16.0 * work.groups, cluster),
        network.exchange(2 * clients * _STATE_BYTES / cluster.ranks, cluster),
        Counter({"gather.round": shared, "gather.client": clients * shared}),
    ]
    parts["aggregate"] = [geometry_amounts(work, cluster, options), reduce_amounts(work, cluster, options)]
    parts["evaluate"] = [_evaluate(work, cluster)]
    parts["record"] = [record_amounts(work, cluster), commit_amounts(work, cluster)]
    return {stage: sum(found, Counter()) for stage, found in parts.items()}


def reduce_amounts(work: Workload, cluster: Cluster, options: Options | None = None) -> Amounts:
    """Return the amounts of the sum over ranks and the step: terms to fixed point, exponents, the vector, and back."""
    reduction, params = (options or Options()).reduction, float(work.params)
    terms = hosted_groups(work, cluster) * params
    exponents = network.allreduce(8.0 * (-(-work.params // EXPONENT_BLOCK)), cluster)
    if reduction == "float32":
        plain = network.allreduce(4.0 * params, cluster)
        return Counter({"reduce.round": cluster.sharing, "reduce.apply": params * cluster.copying}) + plain
    if reduction == "sharded":
        both = network.scattered(8.0 * params, cluster) + network.scattered(4.0 * params, cluster) + exponents
        slices = params * cluster.copying / cluster.ranks
        return both + Counter({"reduce.round": cluster.sharing, "reduce.term": terms, "reduce.vector": slices})
    local = Counter({"reduce.round": cluster.sharing, "reduce.term": terms, "reduce.vector": params * cluster.copying})
    return network.allreduce(8.0 * params, cluster) + exponents + local


def geometry_amounts(work: Workload, cluster: Cluster, options: Options | None = None) -> Amounts:
    """Return the amounts of what a robust rule across groups looks at."""
    if work.rule == "weighted":
        return Counter()
    options = options or Options()
    groups = float(work.groups)
    largest = shared_seconds(slice_sizes(work.params, cluster.ranks, options.block), cluster)
    sent = 4.0 * work.params * hosted_groups(work, cluster) / cluster.sharing
    moved = network.exchange(sent, cluster) + _objects(8.0 * groups, cluster)
    if work.rule == "median":
        return moved + Counter({"geometry.element": groups * largest}) + network.gather_all(4.0 * work.params, cluster)
    pairs = groups * (groups + 1) / 2  # of the groups and the anchor; their exponents are agreed first
    shared = Counter({name: 2 * amount for name, amount in network.allreduce(8.0 * pairs, cluster).items()})
    local = {
        "geometry.round": cluster.sharing,
        "geometry.element": groups * largest,
        "geometry.flop": 2.0 * groups**2 * largest,
        "geometry.entry": pairs * max(largest / options.block, cluster.sharing),
        "geometry.pair": groups**2 * cluster.sharing,
    }
    return moved + shared + Counter(local)


def record_amounts(work: Workload, cluster: Cluster) -> Amounts:
    """Return the amounts of norms, hashes, rows to root and copies of what is recorded."""
    clients, params, shared = float(work.clients.sum()), float(work.params), cluster.sharing
    local = {
        "record.round": 1.0,
        "record.vector": params * shared,  # every rank hashes the model
        "record.group": float(work.groups),  # root puts their rows in order
        "record.element": hosted_groups(work, cluster) * params,  # norms, and copies of what is recorded
        "record.client": clients,
        "object": float(cluster.ranks - 1),
    }
    return Counter(local) + _objects(16.0, cluster) + network.gather_root(clients * _ROW_BYTES, cluster)


def commit_amounts(work: Workload, cluster: Cluster) -> Amounts:
    """Return the amounts of writing, on average over rounds."""
    written = work.vectors * work.vector_bytes
    own = {
        "commit.round": work.commits,
        "commit.file": work.commits * (1.0 if work.vectors else 0.0),  # ranks write theirs at the same time
        "commit.byte": written + work.commits * 8.0 * work.params,
        "commit.client": work.written * float(work.clients.sum()),
    }
    return Counter(own) + Counter({name: amount * work.commits for name, amount in network.barrier(cluster).items()})


def hosted_groups(work: Workload, cluster: Cluster) -> float:
    """Return the groups of the rank with most of them, where ranks that share cores take turns."""
    return slowest_load(np.ones(work.groups), np.ones(work.groups, np.int64), cluster)


def slice_sizes(params: int, ranks: int, block: int) -> NDArray[np.float64]:
    """Return the coordinates of each rank's slice, as `aggregate.geometry.slice_bounds` deals out blocks."""
    bounds = -(-params // block) * np.arange(ranks + 1) // ranks * block
    return np.diff(np.minimum(bounds, params)).astype(np.float64)


def slowest_load(amounts: NDArray[np.float64], costs: NDArray[np.int64], cluster: Cluster) -> float:
    """Return the amount that the last rank waits for, where each group has its own and ranks share cores."""
    if len(costs) and (costs == costs[0]).all():  # the same placement, without a heap of a million groups
        ranks = np.arange(len(costs)) % cluster.ranks
    else:
        ranks = place_groups(costs, cluster.ranks)
    held = np.bincount(ranks, amounts, minlength=cluster.ranks).astype(np.float64)
    return shared_seconds(held, cluster)


def _objects(size: float, cluster: Cluster) -> Amounts:
    """Return the amounts of gathering one object a rank: every rank unpacks all of them."""
    if cluster.ranks == 1:
        return Counter()
    return network.gather_all(size, cluster) + Counter({"object": cluster.ranks * cluster.sharing})


def _spilled(work: Workload, cluster: Cluster) -> float:
    """Return the bytes that a node's ranks write to scratch files, and read again, to wait for all scores."""
    held = 4.0 * work.params * float(work.clients.sum()) / cluster.ranks
    return max(0.0, held - work.hold_bytes) * cluster.on_node


def _evaluate(work: Workload, cluster: Cluster) -> Amounts:
    shards = -(-int(np.ceil(work.test_samples)) // work.shard)
    if not shards:
        return network.barrier(cluster)
    counts = np.bincount(np.arange(shards) % cluster.ranks, minlength=cluster.ranks).astype(np.float64)
    longest = shared_seconds(counts, cluster)
    samples = longest * work.test_samples / shards
    amounts = {"evaluate.shard": longest, f"evaluate.{work.family}.flop": samples * work.sample_flops}
    return Counter(amounts) + _objects(48.0 * shards, cluster)
