from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.parallel.placement import place_groups
from hpcfsl.scaling.amounts import score_amounts, sum_amounts, train_amounts
from hpcfsl.scaling.cluster import one_node
from hpcfsl.scaling.design import DESIGN, HELD_OUT_RANKS, RANKS
from hpcfsl.scaling.fit import compare, fit, fit_network, median_and_worst
from hpcfsl.scaling.measure import Observation
from hpcfsl.scaling.model import Rates, predict
from hpcfsl.scaling.network import allreduce, gather_all
from hpcfsl.scaling.nnls import least_errors, solve
from hpcfsl.scaling.stages import LoggingStopwatch, Measured, measure_round, split_rounds
from hpcfsl.scaling.workload import Workload, evenly

KNOWN = {"object": 1e-6, "geometry.flop": 1e-11, "inside.beta": 3e-10, "plan.client": 1e-6}
TRUE = Rates(
    seconds={
        **KNOWN,
        **{"plan.round": 1e-3, "gather.round": 1e-4, "gather.client": 2e-6, "inside.alpha": 2e-5},
        **{
            "geometry.round": 1e-4,
            "geometry.element": 1e-9,
            "reduce.round": 1e-4,
            "reduce.term": 4e-9,
            "reduce.vector": 2e-9,
            "record.round": 5e-3,
            "commit.round": 3e-3,
        },
        **{
            "evaluate.shard": 2e-4,
            "evaluate.mlp.flop": 2e-11,
            "evaluate.lenet5.flop": 6e-11,
            "commit.client": 3e-5,
            "record.client": 1e-5,
        },
        **{"train.mlp.group": 1e-3, "train.mlp.flop": 3e-11, "train.lenet5.client": 1e-3, "train.lenet5.flop": 5e-11},
        **{"score.element": 4e-9, "sum.group": 2e-4, "sum.element": 2e-9, "commit.byte": 1e-9},
    }
)


class TestNnls:
    @given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(4, 9))
    @settings(deadline=None)
    def test_as_good_as_the_best_of_all_subsets(self, seed: int, columns: int, rows: int) -> None:
        numbers = np.random.default_rng(seed)
        amounts, seconds = numbers.normal(size=(rows, columns)), numbers.normal(size=rows)
        x = solve(amounts, seconds)
        assert (x >= 0).all()
        best = np.inf
        for chosen in product([False, True], repeat=columns):
            y = np.zeros(columns)
            y[list(chosen)] = np.linalg.lstsq(amounts[:, chosen], seconds, rcond=None)[0]
            if (y >= 0).all():
                best = min(best, float(np.linalg.norm(amounts @ y - seconds)))
        assert float(np.linalg.norm(amounts @ x - seconds)) == pytest.approx(best, abs=1e-9)

    def test_finds_rates_of_very_different_size(self) -> None:
        amounts = [Counter({"byte": 1e9 * k, "message": 3.0 + k % 2}) for k in range(1, 6)]
        seconds = np.array([each["byte"] * 1e-10 + each["message"] * 1e-6 for each in amounts])
        found = least_errors(amounts, seconds, seconds)
        assert found == pytest.approx({"byte": 1e-10, "message": 1e-6})

    def test_one_disturbed_measurement_has_little_pull(self) -> None:
        amounts = [Counter({"byte": float(k), "message": 1.0 + k % 3}) for k in range(1, 12)]
        seconds = np.array([each["byte"] * 2.0 + each["message"] for each in amounts])
        seconds[4] *= 5
        assert least_errors(amounts, seconds, seconds) == pytest.approx({"byte": 2.0, "message": 1.0}, rel=0.05)

    def test_an_amount_that_is_always_zero_gets_no_rate(self) -> None:
        assert solve(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([2.0, 4.0])).tolist() == [2.0, 0.0]


def made_up() -> list[Observation]:
    """Return the design as it would be measured if the model were the truth."""
    found = []
    for setting, ranks in product(DESIGN, RANKS):
        if setting.alone and ranks > 1:
            continue
        work, cluster = counts(setting.name), one_node(ranks, 2)
        hosts = place_groups(work.samples, ranks)
        prediction = predict(work, cluster, TRUE)
        kept = prediction.stages if work.pooled else {k: v for k, v in prediction.stages.items() if k != "pool"}
        group = {
            kind: tuple(TRUE.of(each) for each, host in zip(amounts(work), hosts, strict=True) if host == 0)
            for kind, amounts in (
                ("group_train", train_amounts),
                ("group_score", score_amounts),
                ("group_sum", sum_amounts),
            )
        }
        rounds = (Measured(stages=dict(kept), **group),) * 3
        found.append(Observation(setting=setting, work=work, cluster=cluster, passes=(rounds,)))
    return found


def counts(name: str) -> Workload:
    setting = next(each for each in DESIGN if each.name == name)
    lenet = setting.model == "lenet5"
    widths = (64, *setting.hidden, 10)
    params = 61_706 if lenet else sum((a + 1) * b for a, b in pairwise(widths))
    return evenly(
        groups=setting.groups,
        clients=-(-setting.clients // setting.groups),
        samples=setting.samples,
        batch=10,
        family=setting.model,
        params=params,
        sample_flops=8e5 if lenet else 2.0 * params,
        test_samples=2000.0,
        shard=250,
        rule="weighted" if setting.rule == "weighted" else "distances",
        pooled=True,
        vectors={"none": 0.0, "global": 1.0, "group": 1.0 + setting.groups}[setting.updates],
        vector_bytes=4.0 * params,
        written=float(setting.commits),
        commits=float(setting.commits),
    )


@pytest.fixture(scope="module")
def observations() -> list[Observation]:
    return made_up()


class TestFit:
    def test_predicts_what_was_held_out_where_the_model_is_the_truth(self, observations: list[Observation]) -> None:
        rates = fit(observations, KNOWN)
        held_out = [each for each in compare(observations, rates) if each.observation.held_out]
        middle, worst = median_and_worst(held_out)
        assert middle < 0.02
        assert worst < 0.1  # amounts that grow alike on one rank cannot be told apart there
        assert rates.group_noise == pytest.approx(0, abs=1e-9)
        assert rates.contention == pytest.approx(0, abs=1e-6)

    def test_never_looks_at_what_is_held_out(self, observations: list[Observation]) -> None:
        spoilt = [spoil(each) if each.held_out else each for each in observations]
        assert fit(spoilt, KNOWN) == fit(observations, KNOWN)

    def test_finds_how_much_slower_busy_cores_are(self, observations: list[Observation]) -> None:
        busy = [slow_down(each, 0.25) if each.cluster.ranks == 2 else each for each in observations]
        assert fit(busy, KNOWN).contention == pytest.approx(0.25)

    def test_noise_of_groups_and_of_rounds_are_told_apart(self, observations: list[Observation]) -> None:
        numbers = np.random.default_rng(1)
        noisy = [jitter(each, numbers, 0.1, 0.03) if each.cluster.ranks == 1 else each for each in observations]
        rates = fit(noisy, KNOWN)
        assert rates.round_noise == pytest.approx(0.1, rel=0.4)
        assert rates.group_noise == pytest.approx(0.03, rel=0.4)

    def test_network_rates_come_from_sums_and_gathers(self) -> None:
        true = Rates(seconds={"inside.alpha": 3e-6, "inside.beta": 2.5e-10, "inside.switch": 2e-5})
        network = {
            ranks: {
                **{str(size): true.of(allreduce(size, one_node(ranks, 2))) for size in (80_000, 8_000_000)},
                "0": true.of(gather_all(0.0, one_node(ranks, 2))),
            }
            for ranks in RANKS
        }
        network[HELD_OUT_RANKS[0]] = dict.fromkeys(network[1], 1e3)
        found = fit_network(network, 2)
        assert found == pytest.approx(true.seconds)


def spoil(each: Observation) -> Observation:
    return change(each, lambda seconds: 7.0 * seconds)


def slow_down(each: Observation, part: float) -> Observation:
    rounds = tuple(
        replace(measured, group_train=tuple((1 + part) * seconds for seconds in measured.group_train))
        for measured in each.passes[0]
    )
    return replace(each, passes=(rounds,))


def change(each: Observation, how: object) -> Observation:
    assert callable(how)
    rounds = tuple(
        replace(measured, stages={name: how(value) for name, value in measured.stages.items()})
        for measured in each.passes[0]
    )
    return replace(each, passes=(rounds,))


def jitter(each: Observation, numbers: np.random.Generator, by_round: float, by_group: float) -> Observation:
    rounds = []
    for measured in each.passes[0] * 20:
        factors = np.exp(by_round * numbers.normal() + by_group * numbers.normal(size=each.work.groups))
        rounds.append(replace(measured, group_train=tuple(np.array(measured.group_train) * factors)))
    return replace(each, passes=(tuple(rounds),))


class TestStages:
    def test_a_stage_is_what_the_last_rank_adds(self) -> None:
        before = [[("record", 0.0, 1.0)], [("record", 0.0, 0.9)]]
        root = [
            *[("train", 1.0, 2.0), ("score", 2.0, 2.5), ("gather", 2.5, 4.1), ("score", 4.1, 4.3)],
            *[("gather", 4.3, 4.6), ("aggregate", 4.6, 5.0), ("evaluate", 5.0, 5.1), ("record", 5.1, 6.0)],
        ]
        other = [
            *[("train", 0.9, 3.5), ("score", 3.5, 4.0), ("gather", 4.0, 4.1), ("score", 4.1, 4.5)],
            *[("gather", 4.5, 4.6), ("aggregate", 4.6, 4.9), ("evaluate", 5.0, 5.2), ("record", 5.2, 5.3)],
        ]
        found = measure_round(before, [root, other], pooled=True)
        expected = {"train": 3.0, "pool": 0.1, "sum": 0.4, "gather": 0.1, "aggregate": 0.4, "evaluate": 0.2}
        assert found.stages == pytest.approx({**expected, "record": 0.8})
        assert found.seconds == pytest.approx(5.0)
        assert found.group_train == pytest.approx((1.0,))
        assert found.group_score == pytest.approx((0.5,))
        assert found.group_sum == pytest.approx((0.2,))

    def test_groups_one_after_another_where_scores_are_not_pooled(self) -> None:
        names = ["train", "score", "score", "train", "score", "score", "gather", "aggregate", "evaluate", "record"]
        log = [(name, float(place), place + 1.0) for place, name in enumerate(names)]
        found = measure_round([[("record", -1.0, 0.0)]], [log], pooled=False)
        assert found.stages["train"] == 6.0
        assert "pool" not in found.stages
        assert len(found.group_train) == len(found.group_score) == len(found.group_sum) == 2

    def test_a_rank_without_groups_only_waits(self) -> None:
        names = ["gather", "gather", "aggregate", "evaluate", "record"]
        idle = [(name, float(place), place + 1.0) for place, name in enumerate(names)]
        found = measure_round([[("record", -1.0, 0.0)]], [idle], pooled=True)
        assert found.stages["train"] == found.stages["sum"] == 0.0

    def test_a_commit_belongs_to_the_round_before_it(self) -> None:
        watch = LoggingStopwatch()
        for name in ("train", "evaluate", "record", "record", "train", "evaluate", "record"):
            with watch.phase(name):
                pass
        assert [[name for name, _, _ in each] for each in split_rounds(watch.log)] == [
            ["train", "evaluate", "record", "record"],
            ["train", "evaluate", "record"],
        ]
        assert set(watch.take()) == {"train", "evaluate", "record"}


def test_the_design_holds_out_settings_and_rank_counts() -> None:
    assert {setting.held_out for setting in DESIGN} == {True, False}
    assert set(HELD_OUT_RANKS) < set(RANKS)
    assert len({setting.name for setting in DESIGN}) == len(DESIGN)
