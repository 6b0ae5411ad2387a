"""Weak and strong scaling to 1,024 ranks, and what other designs would change: the model far from its measurements.

Layer 4, numpy only. Compute comes from the fitted rates of this machine's core; network, node and work are assumptions,
which stand here and on the page: they are what a cluster of one's own should be compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hpcfsl.scaling.amounts import Options
from hpcfsl.scaling.cluster import Cluster
from hpcfsl.scaling.model import Prediction, Rates, predict
from hpcfsl.scaling.workload import Rule, Workload, evenly

RANKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (1_000_000, 100_000_000)


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """The cluster of the curves. Nothing here was measured.

    Attributes:
        ranks_per_node: Ranks of a node, each with a core of its own.
        latency_seconds: A message between nodes.
        node_bits_per_second: A node's network card, 100 Gbit/s InfiniBand or Ethernet.
        memory_bytes_per_second: A node's memory, eight channels of DDR4-3200.
        clients_per_group: Clients of a group.
        samples: Training samples of a client, one epoch, batches of 10.
        groups_per_rank: Groups of a rank, weak scaling.
        groups: Groups in all, strong scaling.
        commit_rounds: Rounds between two checkpoints.
    """

    ranks_per_node: int = 64
    latency_seconds: float = 2e-6
    node_bits_per_second: float = 100e9
    memory_bytes_per_second: float = 200e9
    clients_per_group: int = 10
    samples: int = 50
    groups_per_rank: int = 1
    groups: int = 1024
    commit_rounds: int = 50


ASSUMED = Assumed()


@dataclass(frozen=True, kw_only=True)
class Point:
    """One predicted round.

    Attributes:
        ranks: Ranks.
        round: Its seconds.
        efficiency: Seconds of one rank over these (weak), or over ranks times these (strong).
    """

    ranks: int
    round: Prediction
    efficiency: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve.

    Attributes:
        kind: `weak` or `strong`.
        params: Parameters of the model.
        rule: Rule across groups.
        points: One for each of `RANKS`.
    """

    kind: str
    params: int
    rule: Rule
    points: tuple[Point, ...]


def all_curves(rates: Rates, assumed: Assumed = ASSUMED) -> list[Curve]:
    """Return weak and strong scaling of both sizes under two rules across groups."""
    rules: tuple[Rule, ...] = ("weighted", "distances")
    return [
        curve(kind, params, rule, rates, assumed) for kind in ("weak", "strong") for params in SIZES for rule in rules
    ]


def curve(kind: str, params: int, rule: Rule, rates: Rates, assumed: Assumed = ASSUMED) -> Curve:
    """Return one curve."""
    linked = with_network(rates, assumed)
    rounds = [
        predict(on_paper(kind, params, rule, ranks, assumed), cluster(ranks, rates, assumed), linked) for ranks in RANKS
    ]
    spent = [each.seconds * (1 if kind == "weak" else ranks) for ranks, each in zip(RANKS, rounds, strict=True)]
    efficiencies = [spent[0] / each for each in spent]
    points = [
        Point(ranks=ranks, round=each, efficiency=efficiency)
        for ranks, each, efficiency in zip(RANKS, rounds, efficiencies, strict=True)
    ]
    return Curve(kind=kind, params=params, rule=rule, points=tuple(points))


def on_paper(kind: str, params: int, rule: Rule, ranks: int, assumed: Assumed = ASSUMED) -> Workload:
    """Return a round of a dense model: two operations a parameter and sample forward, the global update recorded."""
    groups = assumed.groups if kind == "strong" else ranks * assumed.groups_per_rank
    return evenly(
        groups=groups,
        clients=assumed.clients_per_group,
        samples=assumed.samples,
        batch=10,
        family="mlp",
        params=params,
        sample_flops=2.0 * params,
        test_samples=0.0,
        rule=rule,
        pooled=False,
        vectors=1.0,
        vector_bytes=4.0 * params,
        commits=1 / assumed.commit_rounds,
    )


def cluster(ranks: int, rates: Rates, assumed: Assumed = ASSUMED) -> Cluster:
    """Return the assumed cluster with so many ranks."""
    # A copied byte is read twice, for the sum, and written once; so many copies at once fill the node's memory.
    one = 3.0 / max(rates.seconds.get("inside.beta", 0.0), 1e-12)
    return Cluster(
        ranks=ranks,
        ranks_per_node=assumed.ranks_per_node,
        cores_per_node=assumed.ranks_per_node,
        saturating_ranks=max(1.0, assumed.memory_bytes_per_second / one),
    )


def with_network(rates: Rates, assumed: Assumed = ASSUMED) -> Rates:
    """Return rates with the assumed network between nodes."""
    between = {
        "between.alpha": assumed.latency_seconds,
        "between.beta": 8.0 / assumed.node_bits_per_second,
    }
    return replace(rates, seconds={**rates.seconds, **between})


def what_if(rates: Rates, assumed: Assumed = ASSUMED) -> Iterator[tuple[str, int, Mapping[str, Prediction]]]:
    """Yield what changed, the parameters, and predictions by name, strong scaling on 1,024 ranks."""
    for params in SIZES:
        yield (
            "ranks per node",
            params,
            {str(count): _strong(params, rates, replace(assumed, ranks_per_node=count)) for count in (16, 32, 64, 128)},
        )
        yield (
            "clients per group, as many clients in all",
            params,
            {str(count): _strong(params, rates, _regrouped(assumed, count)) for count in (5, 10, 20, 40)},
        )
        yield (
            "sum over ranks",
            params,
            {
                name: _strong(params, rates, assumed, Options(reduction=name))
                for name in ("int64", "sharded", "float32")
            },
        )
        yield (
            "rule across groups",
            params,
            {
                "weighted": _strong(params, rates, assumed),
                "distances": _strong(params, rates, assumed, rule="distances"),
                "distances, in blocks of 4,096": _strong(params, rates, assumed, Options(block=4096), "distances"),
                "coordinate median": _strong(params, rates, assumed, rule="median"),
            },
        )


def _regrouped(assumed: Assumed, clients: int) -> Assumed:
    return replace(assumed, clients_per_group=clients, groups=assumed.groups * assumed.clients_per_group // clients)


def _strong(
    params: int, rates: Rates, assumed: Assumed, options: Options | None = None, rule: Rule = "weighted"
) -> Prediction:
    work = on_paper("strong", params, rule, RANKS[-1], assumed)
    return predict(work, cluster(RANKS[-1], rates, assumed), with_network(rates, assumed), options)
