"""Clients that never train: nothing of theirs is trained on, and all of it is tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.feed import Feed
from hpcfsl.data.held_out import divide_off
from hpcfsl.data.partitions import partitions
from hpcfsl.errors import ConfigError

ROWS, OWNERS, TESTS = 60, 6, 18


def make_dataset(*, test_set: bool = False, test_owners: bool = False) -> Dataset:
    rows = np.arange(ROWS)
    return Dataset(
        name="made",
        inputs=rows[:, None].astype(np.float32),
        targets=rows % 3,
        owners=rows * OWNERS // ROWS,
        num_classes=3,
        test_inputs=1000 + np.arange(TESTS, dtype=np.float32)[:, None] if test_set else None,
        test_targets=np.arange(TESTS) % 3 if test_set else None,
        test_owners=np.arange(TESTS) * OWNERS // TESTS if test_owners else None,
    )


def make_feed(tree: dict[str, Any], dataset: Dataset, *, standardise: bool = False, **chosen: Any) -> Feed:
    population = partitions.parse(tree).divide(dataset, 5)
    training, held = divide_off(population, dataset, **{"number": 0, "owners": (), "seed": 5, **chosen})
    return Feed(dataset=dataset, population=training, standardise=standardise, held_out=held)


def held_values(feed: Feed) -> list[float]:
    clients, counts = feed.held_out_clients()
    inputs, targets = feed.held_out_test(clients)
    assert len(inputs) == len(targets) == counts.sum()
    return sorted(inputs[:, 0].tolist())


@given(number=st.integers(1, 7), seed=st.integers(0, 99), fraction=st.sampled_from([0.2, 0.4]))
def test_every_sample_is_on_one_side(number: int, seed: int, fraction: float) -> None:
    tree = {"rule": "iid", "clients": 8, "test_fraction": fraction}
    feed = make_feed(tree, make_dataset(), number=number, seed=seed)
    assert (feed.num_clients, feed.held_out_clients()[0].tolist()) == (8 - number, list(range(8 - number, 8)))
    seen = np.concatenate([feed.population.train_pool(), feed.population.test_pool()])
    assert sorted([*seen.tolist(), *held_values(feed)]) == list(range(ROWS))


def test_an_owner_left_out_is_there_to_be_tested() -> None:
    feed = make_feed({"rule": "natural", "test_fraction": 0.2}, make_dataset(), owners=(2, 5))
    assert [feed.population.owner(client) for client in range(4)] == [0, 1, 3, 4]
    assert feed.held_out is not None
    assert feed.held_out.owners.tolist() == [2, 5]
    assert held_values(feed) == [*range(20, 30), *range(50, 60)]
    one, _ = feed.held_out_test(np.array([4]))
    assert one[:, 0].tolist() == list(range(20, 30))
    inputs, _ = feed.test_batch(0, feed.num_test)
    assert not set(inputs[:, 0].tolist()) & set(held_values(feed))


def test_no_mean_knows_them() -> None:
    feed = make_feed({"rule": "natural"}, make_dataset(), standardise=True, owners=(5,))
    inputs = feed.inputs(feed.population.train_pool())
    assert abs(float(inputs.mean())) < 1e-5
    assert float(feed.held_out_test(np.array([5]))[0].mean()) > 1.5


def test_their_part_of_the_test_set_is_theirs_alone() -> None:
    feed = make_feed({"rule": "natural"}, make_dataset(test_set=True, test_owners=True), owners=(0,))
    assert held_values(feed) == [*range(10), 1000, 1001, 1002]
    assert feed.num_test == TESTS - 3
    inputs, _ = feed.test_batch(0, feed.num_test)
    assert inputs[:, 0].tolist() == list(range(1003, 1000 + TESTS))


def test_a_test_set_of_nobody_stays_whole() -> None:
    feed = make_feed({"rule": "natural"}, make_dataset(test_set=True), owners=(0,))
    assert (held_values(feed), feed.num_test) == (list(range(10)), TESTS)


@pytest.mark.parametrize(
    ("tree", "chosen", "text"),
    [
        ({"rule": "natural"}, {"number": 6}, "held_out_clients = 6: there are only 6 clients"),
        ({"rule": "natural"}, {"number": 9}, "held_out_clients = 9: there are only 6 clients"),
        ({"rule": "natural"}, {"owners": (0, 1, 2, 3, 4, 5)}, "held_out_owners = .*there are only 6 clients"),
        ({"rule": "natural"}, {"owners": (6,)}, "there is no owner 6; owners of clients are 0 .. 5"),
        ({"rule": "iid", "clients": 4}, {"owners": (1,)}, "have no owners; use 'natural'"),
        ({"rule": "drawing", "clients": 500}, {"number": 3}, "share them with others"),
        ({"rule": "drawing", "clients": 2, "samples": 4}, {"number": 1}, "share"),
    ],
)
def test_what_cannot_be_is_refused(tree: dict[str, Any], chosen: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_feed(tree, make_dataset(), **chosen)


def test_nobody_is_held_out_unless_asked() -> None:
    dataset = make_dataset()
    population = partitions.parse({"rule": "natural"}).divide(dataset, 5)
    assert divide_off(population, dataset, number=0, owners=(), seed=5) == (population, None)
