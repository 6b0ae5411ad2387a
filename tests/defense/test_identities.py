"""The ten identities of docs/method.md, each by its number, for every preset that they apply to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.made import (
    METHODS,
    as_bits,
    configure,
    defend,
    defend_updates,
    first_state,
    make_scored,
    small_config,
    small_world,
    sum_group,
)
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.defense.scoring.score import Scores
from hpcfsl.group import GroupStatus, ScoredGroup, train_and_score
from hpcfsl.models import models
from hpcfsl.models.split import cut_points, split
from hpcfsl.parallel.clients import COLUMNS
from hpcfsl.round import plan_round, run_round
from hpcfsl.state import State
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.training.executors import make_executor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData
from hpcfsl.world import World

EQUAL_STEPS: dict[str, dict[str, Any]] = {
    "influence": {"rule": "one"},
    "normalisation": {"rule": "survivors"},
    "global_aggregation": {"rule": "weighted"},
}
AGGREGATION = {"reading": "aggregation", "learning_rate": 0.0}


def make_updates(count: int, size: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    updates = (rng.normal(size=size) + rng.normal(size=(count, size))).astype(np.float32)
    return updates, rng.integers(3, 40, count)


def split_evenly(count: int, number: int) -> list[np.ndarray]:
    return np.array_split(np.arange(count), number)


def with_credit(scored: ScoredGroup, credit: np.ndarray) -> ScoredGroup:
    return replace(scored, scores=Scores(credit=np.asarray(credit, float), components=scored.scores.components))


def flat_mean(updates: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return samples @ updates.astype(float) / samples.sum()


@pytest.mark.parametrize("weights", [{"reading": "model"}, AGGREGATION], ids=["model", "aggregation"])
@pytest.mark.parametrize("preset", METHODS)
def test_identity_1_equal_scores_give_federated_averaging(preset: str, weights: dict[str, Any]) -> None:
    config = configure(preset, **EQUAL_STEPS, weights=weights)
    updates, samples = make_updates(12)
    groups = split_evenly(12, 3)
    scored = [
        with_credit(
            make_scored(config, updates[g], samples[g], clients=g, weights=samples[g] / samples.mean()), np.full(4, 2.5)
        )
        for g in groups
    ]
    update = defend(config, scored).update
    np.testing.assert_allclose(update, flat_mean(updates, samples), rtol=0, atol=1e-6)


def test_identity_1_aggregation_reading_averages_whatever_the_scores_with_learning_rate_0() -> None:
    config = configure("hardened", weights=AGGREGATION, global_aggregation={"rule": "weighted"})
    updates, samples = make_updates(12, seed=3)
    scored = [
        with_credit(
            make_scored(config, updates[g], samples[g], weights=samples[g] / samples.mean()), np.linspace(1, 1.2, 4)
        )
        for g in split_evenly(12, 3)
    ]
    np.testing.assert_allclose(defend(config, scored).update, flat_mean(updates, samples), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_identity_1_eta_0_is_the_local_learning_rate(rate: float) -> None:
    config = configure("averaging", weights={"reading": "model", "learning_rate": rate})
    updates, samples = make_updates(8, seed=4)
    found = defend_updates(config, updates, samples, split_evenly(8, 2)).update
    np.testing.assert_allclose(found, flat_mean(updates, samples), rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [2, 3, 5, 11])
def test_identity_2_groups_without_exclusion_are_the_flat_weighted_mean(number: int) -> None:
    updates, samples = make_updates(11, seed=number)
    found = defend_updates(configure("averaging"), updates, samples, split_evenly(11, number)).update
    np.testing.assert_allclose(found, flat_mean(updates, samples), rtol=0, atol=1e-6)


# A few of them; tests/training/test_every_cut.py has every model, against the slow reference.
MODELS = {"mlp": (6,), "digits-cnn": (1, 8, 8), "lenet5": (1, 28, 28), "cifar-cnn": (1, 8, 8), "gru-lm": (4,)}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_identity_3_splitfed_v1_at_any_cut_is_not_splitting(name: str) -> None:
    module = models.parse({"name": name}).build(MODELS[name], 3)
    settings = TrainingSettings(batch_size=2, momentum=0.5, executor="one-by-one")
    rng = np.random.default_rng(0)
    shape, text = MODELS[name], name == "gru-lm"
    inputs = rng.integers(0, 3, (7, *shape)) if text else rng.normal(size=(7, *shape)).astype(np.float32)
    data = LocalData(
        clients=np.array([3, 8]),
        counts=np.array([5, 2]),
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(rng.integers(0, 3, (7, *shape) if text else 7)),
    )

    def train(cut: str) -> dict[str, torch.Tensor]:
        model = split(module, cut, shape, target_shape=shape if text else (), vocabulary=3 if text else 0)
        executor = make_executor(model, settings, torch.device("cpu"))
        first = executor.train(model.initial_weights(1), data, seed=5, round=2)
        return {name.partition(".")[2]: value for name, value in model.layout.unflatten(first.updates).items()}

    whole = train("none")
    cuts = cut_points(module)
    assert len(cuts) >= (2 if text else 4)
    for cut in cuts:
        for parameter, value in train(cut).items():
            np.testing.assert_allclose(value, whole[parameter], rtol=1e-5, atol=1e-7, err_msg=f"{cut} {parameter}")


@pytest.mark.parametrize("preset", METHODS)
def test_identity_3_whole_rounds_are_the_same_at_any_cut(preset: str) -> None:
    def train(protocol: str, cut: str) -> dict[str, np.ndarray]:
        config = small_config(preset, protocol={"name": protocol}, model={"cut": cut})
        world = small_world(config)
        state = first_state(world)
        for round in range(2):
            state, _ = run_round(world, state, round, Stopwatch())
        named = world.model.layout.unflatten(state.weights)
        return {name.partition(".")[2]: value.numpy() for name, value in named.items()}

    wanted = train("fedavg", "relu1")
    for cut in ("none", "linear1", "relu1", "linear2", "relu2"):
        for name, value in train("splitfed-v1", cut).items():
            np.testing.assert_allclose(value, wanted[name], rtol=1e-4, atol=1e-6, err_msg=f"{cut} {name}")


@pytest.mark.parametrize("reading", ["model", "aggregation"])
def test_identity_4_an_excluded_score_changes_nobodys_step(reading: str) -> None:
    config = configure("hardened", weights={"reading": reading}, threshold={"scope": "group"})
    updates, samples = make_updates(9, seed=2)
    results = []
    for outlier in (50.0, 1e6, np.inf):
        credit = np.array([1.0, 1.1, 0.9, 1.05, 1.0, 0.95, 1.2, 1.0, outlier])
        summed = sum_group(config, with_credit(make_scored(config, updates, samples), credit))
        assert summed.exclusion.kept.tolist() == [True] * 8 + [False]
        assert summed.scaling is not None
        assert summed.target is not None
        results.append(as_bits(summed.scaling.coefficient) + as_bits(summed.target.factors) + as_bits(summed.update))
    assert len(set(results)) == 1


def test_identity_4_fails_under_literal_where_the_sum_is_over_all() -> None:
    config = configure("literal")
    updates, samples = make_updates(9, seed=2)
    steps = []
    for outlier in (50.0, 1e6):
        credit = np.append(np.ones(8), outlier)
        summed = sum_group(config, with_credit(make_scored(config, updates, samples), credit))
        assert not summed.exclusion.kept[-1]
        steps.append(float(np.linalg.norm(summed.update)))
    # One excluded score of 1e6 multiplies honest steps: the price of the description's words.
    assert steps[1] > 1e4 * steps[0]


def test_identity_4_the_excluded_update_itself_changes_nobodys_step() -> None:
    config = configure("hardened")
    updates, samples = make_updates(9, seed=2)
    scored = with_credit(make_scored(config, updates, samples), [1.0] * 8 + [np.inf])
    spoilt = updates.copy()
    spoilt[8] = np.nan
    other = with_credit(make_scored(config, spoilt, samples), [1.0] * 8 + [np.inf])
    assert as_bits(sum_group(config, scored).update) == as_bits(sum_group(config, other).update)


@pytest.mark.parametrize("preset", METHODS)
def test_identity_5_a_group_of_one_scores_1_and_is_not_excluded(preset: str) -> None:
    config = configure(preset)
    updates, _ = make_updates(1)
    scored = make_scored(config, updates, [7])
    assert scored.scores.credit.tolist() == [1.0]
    summed = sum_group(config, scored, np.array([0.1, 0.1, 0.1, 0.1, 1.0]))
    assert summed.exclusion.kept.tolist() == [True]
    assert summed.scaling is not None
    assert summed.scaling.coefficient.tolist() == [1.0]
    # A bare client update may leave the group only under `literal`.
    assert summed.status == (GroupStatus.USED if preset == "literal" else GroupStatus.WITHHELD)


@pytest.mark.parametrize("preset", METHODS)
def test_identity_5_a_group_of_two_is_scored_and_never_excluded(preset: str) -> None:
    config = configure(preset)
    for seed in range(20):
        updates, samples = make_updates(2, seed=seed)
        updates[1] *= 1000
        scored = make_scored(config, updates, samples)
        assert np.isfinite(scored.scores.credit).all()
        assert scored.scores.components.shape == (2, len(config.score.component_names))
        pool = np.append(scored.scores.credit, np.full(30, 0.01))
        assert sum_group(config, scored).exclusion.kept.all()
        assert sum_group(config, scored, pool).exclusion.kept.all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e-8, 1e6])
@pytest.mark.parametrize("rule", ["mad", "mean-std", "quantile", "none"])
@pytest.mark.parametrize("preset", METHODS)
def test_identity_6_equal_scores_exclude_nobody_and_give_finite_weights(preset: str, rule: str, value: float) -> None:
    config = configure(preset, threshold={"rule": rule})
    for count in (3, 7, 10):
        updates, samples = make_updates(count)
        scored = with_credit(make_scored(config, updates, samples), np.full(count, value))
        summed = sum_group(config, scored)
        assert summed.exclusion.kept.all()
        assert summed.scaling is not None
        assert summed.target is not None
        np.testing.assert_allclose(
            summed.scaling.share, summed.influence / summed.influence.sum() if value else 1 / count
        )
        assert np.isfinite(summed.target.factors).all()
        assert torch.isfinite(summed.update).all()


@pytest.mark.parametrize("preset", METHODS)
def test_identity_6_equal_or_zero_updates_exclude_nobody(preset: str) -> None:
    config = configure(preset)
    _, samples = make_updates(6)
    for row in (np.zeros(10), np.arange(10.0), np.full(10, 1e-30), np.full(10, 1e30)):
        scored = make_scored(config, np.tile(row, (6, 1)), samples)
        assert scored.scores.credit.tolist() == [1.0] * 6
        summed = sum_group(config, scored)
        assert summed.exclusion.kept.all()
        assert torch.isfinite(summed.update).all()


@pytest.mark.parametrize("spoil", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("preset", METHODS)
def test_identity_7_non_finite_updates_have_no_part_in_anything(preset: str, spoil: float) -> None:
    config = configure(preset, threshold={"scope": "group"})
    updates, samples = make_updates(8)
    for column in (0, 39, slice(None)):
        spoilt = updates.copy()
        spoilt[2, column] = spoil
        summed = sum_group(config, make_scored(config, spoilt, samples))
        without = sum_group(config, make_scored(config, np.delete(updates, 2, axis=0), np.delete(samples, 2)))
        assert summed.scored.scores.credit[2] == np.inf
        assert np.isnan(summed.scored.scores.components[2]).all()
        assert not summed.exclusion.kept[2]
        assert np.isnan(summed.influence[2])
        assert summed.exclusion.raw_threshold == without.exclusion.raw_threshold
        assert as_bits(np.delete(summed.scored.scores.credit, 2)) == as_bits(without.scored.scores.credit)
        assert as_bits(summed.update) == as_bits(without.update)


@pytest.mark.parametrize("preset", METHODS)
def test_identity_8_a_group_without_survivors_drops_out(preset: str) -> None:
    config = configure(preset, global_aggregation={"rule": "weighted"})
    updates, samples = make_updates(9)
    updates[3:6] = np.nan
    found = defend_updates(config, updates, samples, split_evenly(9, 3))
    assert [group.status for group in found.groups] == [GroupStatus.USED, GroupStatus.EMPTY, GroupStatus.USED]
    assert found.groups[1].update is None
    assert found.groups[1].scaling is None
    rest = np.r_[0:3, 6:9]
    other = defend_updates(config, updates[rest], samples[rest], split_evenly(6, 2))
    np.testing.assert_array_equal(found.update, other.update)


@pytest.mark.parametrize("preset", METHODS)
def test_identity_8_no_survivor_anywhere_leaves_the_model_where_it_is(preset: str) -> None:
    world = small_world(small_config(preset, threat={"attack": "non-finite", "clients": 12}))
    state = first_state(world)
    before = state.weights.clone()
    after, outcome = run_round(world, state, 0, Stopwatch())
    assert not outcome.moved
    assert outcome.update is None
    assert all(group.status == GroupStatus.EMPTY for group in outcome.groups)
    assert torch.equal(after.weights, before)
    assert len(after.clients) == 12
    assert np.isnan(after.clients.look_up("credit", np.arange(12))).all()


@pytest.mark.parametrize("weights", [{"reading": "model"}, {"reading": "aggregation"}], ids=["model", "aggregation"])
@pytest.mark.parametrize("rule", ["weighted", "geometric-median"])
def test_identity_9_weights_sum_to_1_where_the_rule_normalises(rule: str, weights: dict[str, Any]) -> None:
    config = configure("averaging", weights=weights, global_aggregation={"rule": rule})
    updates, samples = make_updates(12, seed=8)
    found = defend_updates(config, updates, samples, split_evenly(12, 4))
    for group in found.groups:
        assert group.target is not None
        assert group.target.factors.sum() == pytest.approx(1, abs=1e-12)
        assert group.scaling is not None
        assert group.scaling.share.sum() == pytest.approx(1, abs=1e-12)
    assert found.target is not None
    assert found.target.factors.sum() == pytest.approx(1, abs=1e-9)


def run_some_rounds(world: World, state: State, rounds: int = 3) -> tuple[State, list[bytes]]:
    seen = []
    for round in range(rounds):
        state, outcome = run_round(world, state, round, Stopwatch())
        seen.append(as_bits(state.weights) + as_bits(outcome.factors) + as_bits(outcome.masses.masses))
    return state, seen


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"threshold": {"scope": "memory", "window": 2}, "score": {"memory": 0.5}},
        {"weights": {"reading": "aggregation"}, "global_aggregation": {"rule": "centred-clipping"}},
        {"global_aggregation": {"rule": "coordinate-median"}, "perturbation": {"rule": "gaussian"}},
    ],
    ids=["preset", "memory", "aggregation", "median"],
)
@pytest.mark.parametrize("preset", METHODS)
def test_identity_10_any_placement_on_ranks_gives_the_same_bits(preset: str, sections: dict[str, Any]) -> None:
    config = small_config(
        preset,
        groups={"number": 5},
        threat={"attack": "sign-flip", "clients": 3},
        participation={"rule": "number", "clients": 10},
        **sections,
    )
    # Made one after another: a model's split and first weights use the process's random state, which threads share.
    worlds = [small_world(config) for _ in range(8)]
    alone, wanted = run_some_rounds(worlds[0], first_state(worlds[0]))

    for size in (2, 3, 8):
        states = [first_state(world) for world in worlds[:size]]

        def rounds_of_rank(communicator: ThreadCommunicator, states: list[State] = states) -> tuple[State, list[bytes]]:
            world = replace(worlds[communicator.rank], communicator=communicator)
            return run_some_rounds(world, states[communicator.rank])

        ended = on_ranks(size, rounds_of_rank)
        assert all(seen == wanted for _, seen in ended)
        tables = [state.clients.arrays() for state, _ in ended]
        assert sum(len(table["clients"]) for table in tables) == len(alone.clients)
        for name in COLUMNS:
            known = [alone.clients.look_up(name, table["clients"]) for table in tables]
            assert all(as_bits(table[name]) == as_bits(wanted) for table, wanted in zip(tables, known, strict=True))


def test_identity_10_groups_are_trained_and_summed_in_id_order() -> None:
    world = small_world(small_config())
    plan = plan_round(world, 4)
    for members in plan.groups:
        assert (np.diff(members) > 0).all()
    assert sorted(np.concatenate(plan.groups)) == list(range(12))
    scored = train_and_score(
        world, first_state(world).weights, first_state(world).clients, group=0, members=plan.groups[0], round=4
    )
    assert scored.first.clients.tolist() == plan.groups[0].tolist()


@pytest.mark.parametrize("chunk", [1, 2, 3, 12])
def test_identity_10_one_by_one_trains_the_same_bits_whoever_shares_the_chunk(chunk: int) -> None:
    def train(size: int) -> bytes:
        config = small_config(training={"executor": "one-by-one", "chunk_clients": size})
        world = small_world(config)
        state, _ = run_round(world, first_state(world), 0, Stopwatch())
        return as_bits(state.weights)

    assert train(chunk) == train(5)
