"""Finds the rates of the cost model from measured rounds, and says how far its predictions are off.

Layer 4, numpy only. Group work is fitted to one rank's groups, one by one, and what is recorded, evaluated and summed
to its stages; how much slower a core is while its neighbours work comes from the same groups on as many ranks as there
are cores; messages from sums and gathers of nothing else. So the rounds of several ranks are predictions, and noise in
them cannot bend what the curves extend to a thousand ranks. All by least absolute errors with coefficients that are not
negative.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median

import numpy as np

from hpcfsl.parallel.placement import place_groups
from hpcfsl.scaling.amounts import score_amounts, stage_amounts, sum_amounts, train_amounts
from hpcfsl.scaling.cluster import one_node
from hpcfsl.scaling.design import HELD_OUT_RANKS
from hpcfsl.scaling.measure import Observation
from hpcfsl.scaling.model import Rates, predict
from hpcfsl.scaling.network import Amounts, allreduce, gather_all
from hpcfsl.scaling.nnls import least_errors
from hpcfsl.scaling.workload import Workload

# A stage counts by its relative error, but one that is a hundredth of the round need not be right to a hundredth.
_FLOOR = 0.02


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A prediction beside what was measured.

    Attributes:
        observation: What was measured.
        predicted: Seconds of the round.
        stages: Predicted seconds by stage.
    """

    observation: Observation
    predicted: float
    stages: dict[str, float]

    @property
    def error(self) -> float:
        """Predicted over measured, minus 1."""
        return self.predicted / self.observation.seconds - 1.0


def fit(observations: Sequence[Observation], known: Mapping[str, float]) -> Rates:
    """Return the rates that fit the observations that are not held out.

    Args:
        observations: Measured rounds; those on one rank are needed.
        known: Rates that were measured directly and are taken as they are.
    """
    seen = [each for each in observations if not each.held_out]
    alone = [each for each in seen if each.cluster.ranks == 1]
    assert alone, "the fit needs runs on one rank"
    seconds = dict(known)
    for kind, amounts_of in (
        ("group_train", train_amounts),
        ("group_score", score_amounts),
        ("group_sum", sum_amounts),
    ):
        seconds |= _fit_groups(alone, kind, amounts_of)
    round_noise, group_noise = _noise(alone)
    rates = Rates(seconds=seconds, round_noise=round_noise, group_noise=group_noise, contention=_contention(seen))
    return replace(rates, seconds={**seconds, **_fit_stages(alone, rates, known)})


def fit_network(network: Mapping[int, Mapping[str, float]], cores: int) -> dict[str, float]:
    """Return the `inside` rates from measured sums and gathers, those of held-out rank counts left out.

    Args:
        network: As in `Measurement`.
        cores: Cores of this machine.
    """
    amounts, seconds = [], []
    for ranks, found in network.items():
        cluster = one_node(ranks, cores)
        for name, value in found.items() if ranks > 1 and ranks not in HELD_OUT_RANKS else ():
            size = int(name)
            moved = allreduce(size, cluster) if size else gather_all(0.0, cluster)
            amounts.append(moved)
            seconds.append(value)
    found_seconds = np.array(seconds)
    rates = least_errors(amounts, found_seconds, found_seconds)
    return {name: value for name, value in rates.items() if name.startswith("inside.")}


def compare(observations: Sequence[Observation], rates: Rates) -> list[Compared]:
    """Return predictions beside measurements."""
    found = []
    for each in observations:
        prediction = predict(each.work, each.cluster, rates)
        found.append(Compared(observation=each, predicted=prediction.seconds, stages=dict(prediction.stages)))
    return found


def median_and_worst(compared: Sequence[Compared]) -> tuple[float, float]:
    """Return the median and the largest absolute relative error."""
    errors = [abs(each.error) for each in compared]
    return median(errors), max(errors)


def _fit_groups(
    alone: Sequence[Observation], kind: str, amounts_of: Callable[[Workload], list[Amounts]]
) -> dict[str, float]:
    """Fit the time of single groups, the median over rounds of each."""
    amounts = [amounts for each in alone for amounts in amounts_of(each.work)]
    seconds = np.concatenate([each.group_seconds(kind) for each in alone])
    return least_errors(amounts, seconds, seconds)


def _noise(alone: Sequence[Observation]) -> tuple[float, float]:
    """Return how much a whole round and, beside it, a single group vary: standard deviations of log seconds.

    One-way analysis of variance over the rounds of a pass. A group's own size is taken out by its median over them.
    """
    within, between = [], []
    for rounds in (rounds for each in alone for rounds in each.passes):
        logs = np.log([each.group_train for each in rounds])
        logs = logs - np.median(logs, axis=0)
        inside = float(logs.var(axis=1, ddof=1).mean())
        within.append(inside)
        between.append(max(0.0, float(logs.mean(axis=1).var(ddof=1)) - inside / logs.shape[1]))
    return sqrt(median(between)), sqrt(median(within))


def _contention(seen: Sequence[Observation]) -> float:
    """Return how much slower a core is while all work: the same groups on as many ranks as cores and on one rank."""
    alone = {each.setting.name: each.group_seconds("group_train") for each in seen if each.cluster.ranks == 1}
    slower = []
    for each in seen:
        if each.cluster.busy == 1.0 and each.cluster.sharing == 1.0:
            of_root = place_groups(each.work.samples, each.cluster.ranks) == 0
            slower += list(each.group_seconds("group_train") / alone[each.setting.name][of_root] - 1.0)
    # The lower quartile: other work on the machine can only add to it, and would fall on several ranks more often.
    return max(0.0, float(np.quantile(slower, 0.25))) if slower else 0.0


def _fit_stages(alone: Sequence[Observation], rates: Rates, known: Mapping[str, float]) -> dict[str, float]:
    """Fit everything but group work: what the stages take beyond it and beyond what is known."""
    amounts, seconds, scale = [], [], []
    for each in alone:
        grouped = predict(each.work, each.cluster, rates).stages
        for stage, found in stage_amounts(each.work, each.cluster).items():
            if stage not in each.stages or not found:
                continue
            amounts.append(Counter({name: amount for name, amount in found.items() if name not in known}))
            seconds.append(max(0.0, each.stages[stage] - grouped[stage]))
            scale.append(each.stages[stage] + _FLOOR * each.seconds)
    return least_errors(amounts, np.array(seconds), np.array(scale))
