"""Whose smashed data a shared server half trains on: properties of every rule, and what each rule sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.config import resolve
from hpcfsl.defense.screening import FirstPass, Screened, Screening, screen, screenings
from hpcfsl.errors import ConfigError

RULES = ("centroids", "distance")
CLASSES, FEATURES = 4, 8


def make_rule(rule: str, **settings: Any) -> Screening:
    return screenings.parse({"rule": rule, **settings})


def make_clients(
    count: int, seed: int, *, skew: float = 0.3, noise: float = 0.8
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return smashed data [samples, features] and classes of clients with tastes, shifts and sizes of their own."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    smashed, labels = [], []
    for _ in range(count):
        samples, tastes = int(rng.integers(8, 40)), rng.dirichlet(np.full(CLASSES, 3.0))
        own = rng.choice(CLASSES, samples, p=tastes)
        smashed.append(centres[own] + skew * rng.normal(size=FEATURES) + noise * rng.normal(size=(samples, FEATURES)))
        labels.append(own)
    return smashed, labels


def pack(smashed: list[np.ndarray], labels: list[np.ndarray] | None) -> FirstPass:
    return FirstPass(
        smashed=torch.from_numpy(np.concatenate(smashed)).float(),
        counts=np.array([len(each) for each in smashed]),
        labels=None if labels is None else torch.from_numpy(np.concatenate(labels)),
    )


def run(rule: str, smashed: list[np.ndarray], labels: list[np.ndarray] | None, **settings: Any) -> Screened:
    return screen(make_rule(rule, **settings), pack(smashed, labels))


def test_the_registered_rules() -> None:
    assert tuple(screenings.names()) == ("centroids", "distance", "none")


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from(RULES), st.booleans())
@settings(max_examples=60)
def test_a_client_is_used_exactly_where_its_score_is_within_the_threshold(
    count: int, seed: int, rule: str, labelled: bool
) -> None:
    smashed, labels = make_clients(count, seed)
    found = run(rule, smashed, labels if labelled else None, k=0.5)
    assert (found.used == (found.scores <= found.threshold)).all()
    assert (found.scores >= 0).all()
    assert (~found.used).sum() < max(1, count / 2)
    if count < 3:
        assert found.used.all()
        assert found.scores.tolist() == [0.0] * count


@given(st.integers(3, 10), st.integers(0, 1000), st.sampled_from(RULES), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_clients_and_samples_is_no_matter(count: int, seed: int, rule: str, random: Any) -> None:
    smashed, labels = make_clients(count, seed)
    before = run(rule, smashed, labels)
    order = random.sample(range(count), count)
    mixed = [np.random.default_rng(each).permutation(len(smashed[each])) for each in range(count)]
    after = run(rule, [smashed[i][mixed[i]] for i in order], [labels[i][mixed[i]] for i in order])
    np.testing.assert_allclose(after.scores, before.scores[order], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(after.used, before.used[order])


@given(st.integers(3, 10), st.integers(0, 1000), st.sampled_from(RULES), st.floats(-50, 50), st.floats(0.1, 10))
@settings(max_examples=40)
def test_shift_and_scale_of_everybody_are_no_matter(
    count: int, seed: int, rule: str, shift: float, scale: float
) -> None:
    smashed, labels = make_clients(count, seed)
    moved = [each * scale + shift * np.linspace(-1, 1, FEATURES) for each in smashed]
    before, after = run(rule, smashed, labels), run(rule, moved, labels)
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-2, atol=1e-3)


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from((*RULES, "none")), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_equal_data_exclude_nobody(count: int, seed: int, rule: str, labelled: bool, constant: bool) -> None:
    smashed, labels = make_clients(1, seed)
    own = np.zeros_like(smashed[0]) if constant else smashed[0]
    order = [np.random.default_rng(each).permutation(len(own)) for each in range(count)]
    found = run(rule, [own[each] for each in order], [labels[0][each] for each in order] if labelled else None)
    assert found.used.all()


@pytest.mark.parametrize("rule", [*RULES, "none"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@given(st.integers(1, 10), st.integers(0, 1000), st.data())
@settings(max_examples=10)
def test_data_that_are_not_finite_are_left_out_and_bear_on_nobody(
    rule: str, bad: float, count: int, seed: int, data: st.DataObject
) -> None:
    smashed, labels = make_clients(count, seed)
    broken = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    for each in np.flatnonzero(broken):
        smashed[each][data.draw(st.integers(0, len(smashed[each]) - 1)), data.draw(st.integers(0, FEATURES - 1))] = bad
    found = run(rule, smashed, labels)
    assert not found.used[broken].any()
    assert np.isinf(found.scores[broken]).all()
    if broken.all():
        return
    sound = np.flatnonzero(~broken)
    without = run(rule, [smashed[each] for each in sound], [labels[each] for each in sound])
    np.testing.assert_array_equal(found.scores[~broken], without.scores)
    np.testing.assert_array_equal(found.used[~broken], without.used)


@pytest.mark.parametrize("rule", RULES)
def test_huge_finite_data_are_finite_and_left_out(rule: str) -> None:
    smashed, labels = make_clients(8, 0)
    smashed[2] = np.full_like(smashed[2], 1e30)
    found = run(rule, smashed, labels)
    assert np.isfinite(found.scores).all()
    assert found.used.tolist() == [each != 2 for each in range(8)]


def test_number_targets_that_are_not_finite_are_left_out() -> None:
    smashed, _ = make_clients(4, 0)
    targets = [np.ones((len(each), 1), np.float32) for each in smashed]
    targets[1][3] = np.nan
    assert run("distance", smashed, targets, k=100.0).used.tolist() == [True, False, True, True]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("attack", ["noise", "shift", "constant"])
def test_distance_sees_poisoned_smashed_data_with_and_without_labels(attack: str, labelled: bool) -> None:
    caught = wrong = 0
    for seed in range(10):
        smashed, labels = make_clients(12, seed)
        rng, bad = np.random.default_rng(seed), np.arange(12) < 3
        for each in np.flatnonzero(bad):
            size = np.sqrt((smashed[each] ** 2).mean())
            poison = {
                "noise": 3 * size * rng.normal(size=smashed[each].shape),
                "shift": 3 * size * np.ones(FEATURES),
                "constant": -smashed[each] + 1.0,
            }
            smashed[each] = smashed[each] + poison[attack]
        used = run("distance", smashed, labels if labelled else None).used
        caught, wrong = caught + (~used[bad]).sum(), wrong + (~used[~bad]).sum()
    assert caught >= 27
    assert wrong <= 9


@pytest.mark.parametrize("kind", ["classes", "symbols", "numbers"])
def test_centroids_see_flipped_labels_of_every_kind(kind: str) -> None:
    caught = wrong = 0
    for seed in range(10):
        smashed, labels = make_clients(12, seed)
        for each in range(3):
            labels[each] = CLASSES - 1 - labels[each]
        if kind == "symbols":  # [samples, positions], with features at each position
            smashed = [np.stack([each, each], axis=1) for each in smashed]
            labels = [np.stack([each, each], axis=1) for each in labels]
        if kind == "numbers":
            labels = [each[:, None].astype(np.float32) for each in labels]
            truth = [CLASSES - 1 - each if place < 3 else each for place, each in enumerate(labels)]
            smashed = [each + 4 * np.linspace(-1, 1, FEATURES) * own for each, own in zip(smashed, truth, strict=True)]
        used = run("centroids", smashed, labels).used
        caught, wrong = caught + (~used[:3]).sum(), wrong + (~used[3:]).sum()
    assert caught >= 27
    assert wrong <= 9


def test_a_client_with_few_samples_is_not_far_for_that_alone() -> None:
    wrong = 0
    for seed in range(40):
        smashed, _ = make_clients(12, seed)
        rng = np.random.default_rng(seed)
        smashed[0] = smashed[0][rng.choice(len(smashed[0]), 2, replace=False)]
        wrong += not run("distance", smashed, None).used[0]
    assert wrong <= 6


def slow_distance(smashed: list[np.ndarray], labels: list[np.ndarray], floor: float) -> list[float]:
    """Return the scores of `distance`, one client, class and feature after another."""
    clients, variances, freedoms = range(len(smashed)), [], []
    for own, classes in zip(smashed, labels, strict=True):
        squares = freedom = 0.0
        for label in set(classes):
            rows = own[classes == label]
            squares += sum(((row - rows.mean(axis=0)) ** 2).sum() for row in rows)
            freedom += len(rows) - 1
        variances.append(squares / max(freedom, 1))
        freedoms.append(freedom)
    typical, where = float(np.median(variances)), np.full(len(smashed), np.nan)
    totals, weights = [0.0] * len(smashed), [0.0] * len(smashed)
    for label in range(CLASSES):
        means = {i: smashed[i][labels[i] == label].mean(axis=0) for i in clients if (labels[i] == label).any()}
        if len(means) < 3:
            continue
        centre = np.array([np.median([mean[feature] for mean in means.values()]) for feature in range(FEATURES)])
        squares_of = {i: float(((mean - centre) ** 2).sum()) for i, mean in means.items()}
        noise = {i: typical / (labels[i] == label).sum() for i in means}
        between = max(float(np.median([squares_of[i] - noise[i] for i in means])), 0.0)
        for i in means:
            totals[i] += (labels[i] == label).sum() * (squares_of[i] / (between + noise[i])) ** 0.5
            weights[i] += (labels[i] == label).sum()
    for i in clients:
        where[i] = totals[i] / weights[i] if weights[i] else np.nan
    sure = np.minimum(np.sqrt(np.array(freedoms) / np.median(freedoms)), 1)
    spread = np.abs(np.log(np.sqrt(variances) / np.median(np.sqrt(variances)))) * sure
    return [max(pair) for pair in zip(slow_score(where, floor), slow_score(spread, floor), strict=True)]


def slow_centroids(smashed: list[np.ndarray], labels: list[np.ndarray], floor: float) -> list[float]:
    """Return the scores of `centroids`, one client and class after another."""
    clients = range(len(smashed))
    means = {
        (i, label): smashed[i][labels[i] == label].mean(axis=0)
        for i in clients
        for label in range(CLASSES)
        if (labels[i] == label).any()
    }
    holders = {label: [i for i in clients if (i, label) in means] for label in range(CLASSES)}
    centres = {label: np.median([means[i, label] for i in who], axis=0) for label, who in holders.items() if who}
    found = np.full(len(smashed), np.nan)
    for i in clients:
        shares, weights = [], []
        for label in range(CLASSES):
            if (i, label) in means and len(holders[label]) >= 3:
                far = {each: float(np.linalg.norm(means[i, label] - centre)) for each, centre in centres.items()}
                nearest = min(distance for each, distance in far.items() if each != label)
                shares.append(far[label] / (far[label] + nearest))
                weights.append((labels[i] == label).sum())
        found[i] = np.average(shares, weights=weights) if shares else np.nan
    return slow_score(found, floor)


def slow_score(values: np.ndarray, floor: float) -> list[float]:
    middle = np.nanmedian(values)
    deviation = 1.4826 * max(float(np.nanmedian(np.abs(values - middle))), floor)
    return [0.0 if np.isnan(each) else max((each - middle) / deviation, 0.0) for each in values]


@pytest.mark.parametrize(("rule", "slow"), [("distance", slow_distance), ("centroids", slow_centroids)])
@given(st.integers(3, 9), st.integers(0, 1000))
@settings(max_examples=25)
def test_against_a_slow_reference(rule: str, slow: Any, count: int, seed: int) -> None:
    smashed, labels = make_clients(count, seed)
    smashed = [each.astype(np.float32).astype(float) for each in smashed]
    found = run(rule, smashed, labels)
    np.testing.assert_allclose(
        found.scores, slow(smashed, labels, make_rule(rule).model_dump()["floor"]), rtol=1e-6, atol=1e-9
    )


SCREENED: dict[str, Any] = {"name": "parallel", "undo": "screen"}


@pytest.mark.parametrize(
    ("protocol", "rule", "fix"),
    [
        ({"name": "splitfed-v1"}, "distance", "unless protocol.undo = 'screen'"),
        ({"name": "parallel"}, "centroids", "unless protocol.undo = 'screen'"),
        (SCREENED, "none", "choose 'centroids' or 'distance'"),
        ({**SCREENED, "name": "u-shaped"}, "centroids", "use 'distance'"),
    ],
)
def test_screening_and_undoing_go_together(protocol: dict[str, Any], rule: str, fix: str) -> None:
    with pytest.raises(ConfigError, match=rf"screening\.rule = '{rule}': .*{fix}"):
        resolve({"protocol": protocol, "screening": {"rule": rule}})


@pytest.mark.parametrize("name", ["splitfed-v2", "parallel", "u-shaped"])
def test_screening_is_taken_where_it_works(name: str) -> None:
    config = resolve({"protocol": {**SCREENED, "name": name}, "screening": {"rule": "distance"}})
    assert config.screening.compares
