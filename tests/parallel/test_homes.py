from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.parallel.clients import COLUMNS, ClientTable
from hpcfsl.parallel.homes import SHARDS, fetch_clients, home_of, homes_before, send_home

sizes = st.integers(1, 5)
ids = st.sets(st.one_of(st.integers(0, 40), st.integers(0, 20_000_000)), max_size=30)


def deal(clients: set[int], size: int, seed: int) -> list[np.ndarray]:
    """Return hosts for some clients: any division of them over the ranks."""
    order = np.array(sorted(clients), np.int64)
    hosts = np.random.default_rng(seed).integers(0, size, len(order))
    return [order[hosts == rank] for rank in range(size)]


def news_of(clients: np.ndarray, round: int) -> dict[str, np.ndarray]:
    """Return made-up news that follow from client and round, a third of them missing."""
    values = {name: clients * 10.0 + round + place for place, name in enumerate(COLUMNS)}
    return {name: np.where((clients + round) % 3 == 0, np.nan, column) for name, column in values.items()}


@given(sizes, st.lists(ids, min_size=1, max_size=4), st.integers(0, 9))
def test_every_rank_finds_what_one_table_would_know(size: int, rounds: list[set[int]], seed: int) -> None:
    wanted: list[dict[str, np.ndarray]] = []
    single = ClientTable()
    for number, clients in enumerate(rounds):
        order = np.array(sorted(clients), np.int64)
        wanted.append({name: single.look_up(name, order) for name in COLUMNS})
        if len(order):
            single.update(order, **news_of(order, number))

    def rank_of_many(communicator: ThreadCommunicator) -> ClientTable:
        table = ClientTable()
        for number, clients in enumerate(rounds):
            hosted = deal(clients, size, seed + number)
            own = hosted[communicator.rank]
            found = fetch_clients(table, hosted, communicator)
            places = np.searchsorted(np.array(sorted(clients), np.int64), own)
            for name in COLUMNS:
                np.testing.assert_array_equal(found.look_up(name, own), wanted[number][name][places])
            send_home(table, hosted, news_of(own, number), communicator)
        return table

    tables = on_ranks(size, rank_of_many)
    assert sum(map(len, tables)) == len(single)
    for rank, table in enumerate(tables):
        clients = np.asarray(table.arrays()["clients"], np.int64)
        assert (home_of(clients, size) == rank).all()
        for name in COLUMNS:
            np.testing.assert_array_equal(table.look_up(name, clients), single.look_up(name, clients))


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_rank_reads_the_homes_that_its_clients_had(ranks: int, before: int) -> None:
    clients = np.arange(3 * SHARDS)
    now, then = home_of(clients, ranks), home_of(clients, before)
    for rank in {0, ranks // 2, ranks - 1}:
        assert homes_before(rank, ranks, before) == sorted(set(then[now == rank].tolist()))


@pytest.mark.parametrize("ranks", [1, 2, 64, 1000])
def test_homes_share_the_clients_evenly(ranks: int) -> None:
    counts = np.bincount(home_of(np.arange(100 * SHARDS), ranks), minlength=ranks)
    assert counts.max() <= 1.3 * counts.mean()


def test_the_same_number_of_ranks_reads_its_own_file_only() -> None:
    assert all(homes_before(rank, 8, 8) == [rank] for rank in range(8))
