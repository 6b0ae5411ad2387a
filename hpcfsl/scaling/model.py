"""The cost model: the seconds of a round, stage by stage, as rates times amounts.

Layer 4, numpy only. A round is a chain of stages, each over when the last rank is done with it:

    train      plan the round; every rank trains and scores its groups
    pool       gather the scores, where thresholds pool them
    sum        exclude, weigh, and sum inside each group
    gather     every rank hears the groups' weights and the clients' scores
    aggregate  the rule across groups, the exact sum over ranks, the step
    evaluate   the test set in shards
    record     rows to root, recorded updates, and the checkpoint where it is due

Every amount is a count that follows from the workload and the cluster (samples, bytes, start-ups, ...), every rate a
number of seconds that was fitted or is assumed, and a stage is the sum of their products. Only the slowest rank counts:
its groups are those that the program's own placement gives it, ranks that share cores take turns
(`cluster.shared_seconds`), and of many ranks the unluckiest is later than the mean (`slowest_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from hpcfsl.scaling.amounts import (
    Options,
    commit_amounts,
    geometry_amounts,
    record_amounts,
    reduce_amounts,
    score_amounts,
    slowest_load,
    stage_amounts,
    sum_amounts,
    train_amounts,
)
from hpcfsl.scaling.cluster import Cluster, slowest_of
from hpcfsl.scaling.network import Amounts
from hpcfsl.scaling.workload import Workload


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of one unit of each amount, and how much equal work varies.

    Attributes:
        seconds: By name; a name that is missing costs nothing.
        round_noise: Relative standard deviation of a rank's speed from round to round.
        group_noise: Relative standard deviation of a group's time beside it.
        contention: Relative slowdown of a core while all cores of its node work.
    """

    seconds: Mapping[str, float]
    round_noise: float = 0.0
    group_noise: float = 0.0
    contention: float = 0.0

    def of(self, amounts: Mapping[str, float]) -> float:
        """Return the seconds of some amounts."""
        return sum(self.seconds.get(name, 0.0) * amount for name, amount in amounts.items())


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The seconds of a round.

    Attributes:
        stages: By stage, all of `amounts.STAGES`.
        terms: The same seconds by cause.
    """

    stages: Mapping[str, float]
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of the round."""
        return sum(self.stages.values())

    @property
    def dominant(self) -> str:
        """The cause that takes most."""
        return max(self.terms, key=lambda name: self.terms[name])


def predict(work: Workload, cluster: Cluster, rates: Rates, options: Options | None = None) -> Prediction:
    """Return the seconds of one round."""
    waits = {stage: rates.of(amounts) for stage, amounts in stage_amounts(work, cluster, options).items()}
    train, spread, unlucky = _grouped(work, cluster, _group_seconds(work, rates, (train_amounts, score_amounts)), rates)
    sums, sums_spread, sums_unlucky = _grouped(work, cluster, _group_seconds(work, rates, (sum_amounts,)), rates)
    stages = dict(waits)
    stages["train"] += train + spread + unlucky
    stages["sum"] += sums + sums_spread + sums_unlucky
    terms = {
        "compute": train + sums,
        "imbalance": spread + sums_spread,
        "stragglers": unlucky + sums_unlucky,
        **_split_terms(work, cluster, rates, options),
        "evaluation": waits["evaluate"],
    }
    terms["other"] = max(0.0, sum(stages.values()) - sum(terms.values()))
    return Prediction(stages=stages, terms=terms)


def _group_seconds(
    work: Workload, rates: Rates, kinds: tuple[Callable[[Workload], list[Amounts]], ...]
) -> NDArray[np.float64]:
    """Return the seconds of each group on a core whose neighbours rest, float64 [groups]; equals are done once."""
    columns = np.stack([work.clients, work.samples, work.steps], axis=1)
    (clients, samples, steps), place = _unique_rows(columns)
    few = replace(work, clients=clients, samples=samples, steps=steps)
    seconds = sum(np.array([rates.of(amounts) for amounts in kind(few)]) for kind in kinds)
    return np.asarray(seconds)[place]


def _unique_rows(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different rows, int64 [columns, rows], and which of them each row is."""
    rows, place = np.unique(table, axis=0, return_inverse=True)
    return rows.T, place.reshape(-1)


def _grouped(work: Workload, cluster: Cluster, alone: NDArray[np.float64], rates: Rates) -> tuple[float, float, float]:
    """Return the seconds of group work if it were spread evenly, what uneven ranks add, and what unlucky ones add."""
    seconds = alone * (1.0 + rates.contention * cluster.busy)
    total = slowest_load(seconds, work.samples, cluster)
    cores = cluster.nodes * min(cluster.on_node, cluster.cores_per_node)
    even = min(total, float(seconds.sum()) / min(cores, cluster.ranks))
    held = max(1.0, work.groups / cluster.ranks)
    noise = sqrt(rates.round_noise**2 + rates.group_noise**2 / held)
    active = min(cluster.ranks, cores, work.groups)
    return even, total - even, total * noise * max(0.0, slowest_of(active))


def _split_terms(work: Workload, cluster: Cluster, rates: Rates, options: Options | None) -> dict[str, float]:
    commit = rates.of(commit_amounts(work, cluster))
    return {
        "reduction": rates.of(reduce_amounts(work, cluster, options)),
        "distances": rates.of(geometry_amounts(work, cluster, options)),
        "recording": rates.of(record_amounts(work, cluster)),
        "input and output": commit,
    }
