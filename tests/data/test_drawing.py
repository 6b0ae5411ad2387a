"""Drawn clients: any number of them at no cost, and none trains on what another is tested on."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions import partitions

SEEDS = st.integers(0, 2**32 - 1)


def make_dataset(num_test: int = 0) -> Dataset:
    return Dataset(
        name="made",
        inputs=np.zeros((120, 1), np.uint8),
        targets=np.arange(120) % 5,
        owners=None,
        num_classes=5,
        test_inputs=np.zeros((num_test, 1), np.uint8) if num_test else None,
        test_targets=np.arange(num_test) % 5 if num_test else None,
    )


def drawn(tree: dict[str, Any], *, num_test: int = 0, seed: int = 0) -> Any:
    return partitions.parse({"rule": "drawing", **tree}).divide(make_dataset(num_test), seed)


def test_twenty_million_clients_take_no_time_and_no_memory() -> None:
    dataset, partition = make_dataset(), partitions.parse({"rule": "drawing", "clients": 20_000_000})
    tracemalloc.start()
    began = time.perf_counter()
    population = partition.divide(dataset, 0)
    seconds, (_, peak_bytes) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert population.num_clients == 20_000_000
    assert seconds < 0.1
    assert peak_bytes < 1_000_000
    assert len(population.train_rows(19_999_999)) == 20


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(0, 2**31 - 2), st.floats(0.01, 0.9), st.integers(1, 40))
def test_drawn_clients_train_and_test_on_different_rows(seed: int, client: int, fraction: float, samples: int) -> None:
    population = drawn({"clients": 2**31 - 1, "samples": samples, "test_fraction": fraction}, seed=seed)
    train, test = population.train_rows(client), population.test_rows(client)
    assert len(train) == samples
    assert len(test) <= samples * fraction / (1 - fraction) + 1e-6
    assert np.isin(train, population.train_pool()).all()
    assert np.isin(test, population.test_pool()).all()
    assert not population.test_rows_of_test_set
    both = np.concatenate([population.train_pool(), population.test_pool()])
    np.testing.assert_array_equal(np.sort(both), np.arange(120))
    np.testing.assert_array_equal(train, population.train_rows(client))


def test_drawn_clients_test_on_the_sources_test_set() -> None:
    population = drawn({"samples": 8, "test_fraction": 0.5}, num_test=9)
    assert population.test_rows_of_test_set
    assert population.test_pool().tolist() == list(range(9))
    assert population.train_pool().tolist() == list(range(120))
    assert len(population.test_rows(5)) == 8
    assert population.test_rows(5).max() < 9
    assert population.owner(5) == -1


def test_drawn_clients_in_a_batch_are_the_same_ones() -> None:
    population, clients = drawn({"samples": 6}), np.array([7, 3, 999])
    batch = population.train_rows_of(clients).reshape(3, 6)
    for client, rows in zip(clients, batch, strict=True):
        np.testing.assert_array_equal(rows, population.train_rows(int(client)))
    assert population.train_counts(clients).tolist() == [6, 6, 6]
    assert population.test_counts(clients).tolist() == [len(population.test_rows(7))] * 3
    assert population.total_and_largest() == (6000, 6)
    assert len({tuple(rows) for rows in batch.tolist()}) == 3


def test_drawn_rows_are_spread_evenly() -> None:
    population = drawn({"samples": 100, "clients": 1000})
    hits = np.bincount(population.train_rows_of(np.arange(1000)), minlength=120)[population.train_pool()]
    expected = 100_000 / len(population.train_pool())
    assert np.abs(hits / expected - 1).max() < 0.15
