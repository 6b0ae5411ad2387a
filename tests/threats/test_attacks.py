from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.made import first_state, small_config, small_world

from hpcfsl.errors import ConfigError
from hpcfsl.group import train_and_score
from hpcfsl.threats import OwnData, Threat, View, threats

ATTACKS = (
    "alie",
    "feature-noise",
    "ipm",
    "label-flip",
    "mimic",
    "non-finite",
    "none",
    "sign-flip",
    "smashed-noise",
    "smashed-non-finite",
    "smashed-shift",
)


def make_threat(attack: str, **settings: Any) -> Threat:
    return threats.parse({"attack": attack, **settings})


def make_view(attackers: list[bool]) -> View:
    rng = np.random.default_rng(len(attackers))
    updates = rng.normal(size=(len(attackers), 30)).astype(np.float32)
    return View(
        updates=torch.from_numpy(updates),
        attackers=torch.tensor(attackers),
        seed=0,
        round=0,
        clients=np.arange(len(attackers)),
    )


MIXED = [False, True, False, False, True, False]


def test_the_registered_threats() -> None:
    assert tuple(threats.names()) == ATTACKS


@pytest.mark.parametrize("attackers", [MIXED, [True, True, True], [True]])
def test_uploads_against_brute_force(attackers: list[bool]) -> None:
    view = make_view(attackers)
    bad = np.array(attackers)
    rows = view.updates.numpy().astype(float)
    honest = rows if bad.all() else rows[~bad]
    count = bad.sum()
    mean = np.array([sum(column) / len(column) for column in honest.T])
    std = np.array(
        [(sum((x - m) ** 2 for x in column) / len(column)) ** 0.5 for column, m in zip(honest.T, mean, strict=True)]
    )
    wanted = {
        ("alie", ("z", 0.25)): np.tile(mean - 0.25 * std, (count, 1)),
        ("alie", ("z", 1.5)): np.tile(mean - 1.5 * std, (count, 1)),
        ("ipm", ("epsilon", 0.1)): np.tile(-0.1 * mean, (count, 1)),
        ("mimic", None): np.tile(honest[0], (count, 1)),
        ("sign-flip", ("scale", 5.0)): -5.0 * rows[bad],
        ("label-flip", None): rows[bad],
    }
    for (attack, setting), upload in wanted.items():
        forged = make_threat(attack, **(dict([setting]) if setting else {})).forge(view)
        assert forged.shape == (count, 30)
        np.testing.assert_allclose(forged, upload, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("value", "number"), [("nan", np.nan), ("infinity", np.inf), ("huge", 1e30)])
def test_non_finite_uploads(value: str, number: float) -> None:
    np.testing.assert_array_equal(
        make_threat("non-finite", value=value).forge(make_view(MIXED)), np.full((2, 30), number, np.float32)
    )


def own_data(inputs: Any, targets: Any, *, counts: Sequence[int] | None = None, **changes: Any) -> OwnData:
    """Return the data of one attacker, or of several with so many samples each."""
    counts = [len(targets)] if counts is None else counts
    settings = {"num_classes": 3, "vocabulary": 0, "seed": 0, "round": 0, **changes}
    return OwnData(
        clients=np.arange(len(counts)) * 7, counts=np.array(counts), inputs=inputs, targets=targets, **settings
    )


@given(st.integers(2, 20), st.lists(st.integers(0, 1), min_size=1, max_size=20))
def test_labels_are_mirrored_and_mirrored_back(num_classes: int, labels: list[int]) -> None:
    targets, inputs = np.array(labels, np.int64), np.zeros((len(labels), 2), np.float32)
    flip = make_threat("label-flip").poison
    same, flipped = flip(own_data(inputs, targets, num_classes=num_classes))
    assert same is inputs
    assert flipped.tolist() == [num_classes - 1 - label for label in labels]
    assert flip(own_data(inputs, flipped, num_classes=num_classes))[1].tolist() == labels


def test_symbols_of_a_sequence_move_on_by_one() -> None:
    targets = np.array([[0, 1, 2], [2, 2, 0]])
    _, flipped = make_threat("label-flip").poison(own_data(np.zeros((2, 3), np.int64), targets, vocabulary=3))
    assert flipped.tolist() == [[1, 2, 0], [0, 0, 1]]


def test_numbers_are_mirrored_about_the_median_of_each_attackers_own() -> None:
    targets = np.array([[1, 10], [2, 20], [6, 90], [5, 5], [7, 7]], np.float32)
    own = own_data(np.zeros((5, 1), np.float32), targets, counts=[3, 2], num_classes=0)
    _, flipped = make_threat("label-flip").poison(own)
    assert flipped.dtype == np.float32
    assert flipped.tolist() == [[3, 30], [2, 20], [-2, -50], [7, 7], [5, 5]]
    assert own.targets.tolist() == targets.tolist()


@pytest.mark.parametrize("attack", ATTACKS)
def test_only_data_attacks_touch_data(attack: str) -> None:
    own = own_data(np.ones((3, 2), np.float32), np.array([0, 1, 2]))
    inputs, targets = make_threat(attack).poison(own)
    assert (targets is own.targets) == (attack != "label-flip")
    assert (inputs is own.inputs) == (attack != "feature-noise")


@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.data())
def test_attackers_are_drawn_once_from_the_seed(num_clients: int, seed: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, num_clients))
    threat = make_threat("sign-flip", clients=count)
    chosen = threat.choose(num_clients, seed)
    assert len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    assert all(0 <= client < num_clients for client in chosen)
    assert threat.choose(num_clients, seed).tolist() == chosen.tolist()


def test_another_seed_has_other_attackers() -> None:
    threat = make_threat("sign-flip", clients=5)
    assert threat.choose(1000, 1).tolist() != threat.choose(1000, 2).tolist()


def test_more_attackers_than_clients_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"threat\.clients = 11: there are only 10 clients"):
        make_threat("alie", clients=11).choose(10, 0)


def test_nobody_attacks_under_none() -> None:
    assert len(make_threat("none").choose(10, 0)) == 0
    with pytest.raises(ConfigError, match=r"threat\.clients"):
        make_threat("none", clients=1)


def run_group(round: int, **threat: Any) -> Any:
    world = small_world(small_config(threat=threat, training={"executor": "one-by-one"}))
    state = first_state(world)
    return train_and_score(world, state.weights, state.clients, group=0, members=np.arange(12), round=round)


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack != "none"])
def test_attackers_behave_until_their_first_round_and_honest_clients_always(attack: str) -> None:
    honest = run_group(2, attack="none")
    before = run_group(2, attack=attack, clients=4, first_round=3)
    assert torch.equal(before.uploads, honest.uploads)
    assert not before.attackers.any()
    after = run_group(2, attack=attack, clients=4, first_round=2)
    bad = after.attackers
    assert bad.sum() == 4
    assert torch.equal(after.uploads[~bad], honest.uploads[~bad])
    for row in np.flatnonzero(bad):
        assert not torch.equal(after.uploads[row], honest.uploads[row])


def test_the_data_of_honest_clients_are_never_poisoned() -> None:
    world = small_world(small_config(threat={"attack": "label-flip", "clients": 4}))
    rows = world.population.train_rows_of(np.arange(12))
    before = world.feed.targets(rows).copy()
    state = first_state(world)
    train_and_score(world, state.weights, state.clients, group=0, members=np.arange(12), round=0)
    np.testing.assert_array_equal(world.feed.targets(rows), before)


def test_a_threat_that_changes_nothing_is_the_honest_upload() -> None:
    view = make_view(MIXED)
    assert torch.equal(Threat(attack="idle").forge(view), view.own)
