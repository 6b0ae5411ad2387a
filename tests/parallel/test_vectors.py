from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.errors import UserError
from hpcfsl.parallel import vectors
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.homes import home_of
from hpcfsl.parallel.vectors import HostedVectors, VectorTable

WIDTH = 3
ROW = 4 * WIDTH
ids = st.lists(st.integers(0, 10_000_000), max_size=20, unique=True)
in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def row_of(client: int, round: int) -> np.ndarray:
    return np.array([client, round, -0.0], np.float32)


def rows_of(clients: np.ndarray, round: int) -> np.ndarray:
    return np.array([row_of(client, round) for client in clients.tolist()], np.float32).reshape(-1, WIDTH)


def deal(clients: list[int], size: int, seed: int) -> list[np.ndarray]:
    """Return hosts for some clients: any division of them over the ranks."""
    order = np.array(sorted(clients), np.int64)
    hosts = np.random.default_rng(seed).integers(0, size, len(order))
    return [order[hosts == rank] for rank in range(size)]


@in_a_folder
@given(st.lists(ids, min_size=1, max_size=4), st.integers(0, 25))
def test_a_table_gives_back_what_was_stored_last(tmp_path: Path, rounds: list[list[int]], room: int) -> None:
    table, wanted = VectorTable(WIDTH, room * ROW, tmp_path), {}
    for number, clients in enumerate(rounds):
        table.store(np.array(clients, np.int64), rows_of(np.array(clients, np.int64), number))
        wanted.update({client: row_of(client, number) for client in clients})
    some = np.array([*wanted, 10_000_001], np.int64)
    assert table.known(some).tolist() == [True] * len(wanted) + [False]
    assert table.rows(some[:-1]).tobytes() == b"".join(row.tobytes() for row in wanted.values())
    assert table.clients.tolist() == sorted(wanted)
    assert len(table) == len(wanted)
    assert table.bytes <= room * ROW
    pieces = list(table.pieces(2 * ROW))
    assert all(len(clients) <= 2 for clients, _ in pieces)
    assert [client for clients, _ in pieces for client in clients.tolist()] == sorted(wanted)
    assert all((rows == rows_of(clients, 0))[:, 0].all() for clients, rows in pieces)
    assert not any(tmp_path.iterdir())  # the scratch file has no name
    table.close()
    assert len(table) == table.bytes == 0


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    table = VectorTable(WIDTH, ROW, tmp_path / "missing")
    table.store(np.array([4]), rows_of(np.array([4]), 0))
    with pytest.raises(UserError, match=r"clients' vectors cannot be written .*raise run.client_state_mib"):
        table.store(np.array([5]), rows_of(np.array([5]), 0))


@in_a_folder
@given(
    size=st.integers(1, 4),
    rounds=st.lists(ids, min_size=1, max_size=4),
    seed=st.integers(0, 9),
    room=st.integers(0, 5),
    message=st.sampled_from([1, 100, 1 << 20]),
)
def test_every_rank_finds_what_one_table_would_know(
    tmp_path: Path, size: int, rounds: list[list[int]], seed: int, room: int, message: int
) -> None:
    single = VectorTable(WIDTH, 1 << 20, tmp_path)
    before = []
    for number, clients in enumerate(rounds):
        order = np.array(sorted(clients), np.int64)
        known = order[single.known(order)]
        before.append({client: single.rows(np.array([client]))[0] for client in known.tolist()})
        changed = order[(order + number) % 3 > 0]
        single.store(changed, rows_of(changed, number))

    def rank_of_many(communicator: ThreadCommunicator) -> VectorTable:
        home = VectorTable(WIDTH, room * ROW, tmp_path)
        for number, clients in enumerate(rounds):
            hosted = deal(clients, size, seed + number)
            own = hosted[communicator.rank]
            here = HostedVectors(home, communicator)
            here.fetch(hosted)
            known = own[here.known(own)]
            assert known.tolist() == [client for client in own.tolist() if client in before[number]]
            for client, row in zip(known.tolist(), here.rows(known), strict=True):
                assert row.tobytes() == before[number][client].tobytes()
            changed = own[(own + number) % 3 > 0]
            here.store(changed, rows_of(changed, number))
            here.send_home()
        return home

    whole, vectors.MESSAGE_BYTES = vectors.MESSAGE_BYTES, message
    try:
        tables = on_ranks(size, rank_of_many)
    finally:
        vectors.MESSAGE_BYTES = whole
    assert sum(map(len, tables)) == len(single)
    for rank, table in enumerate(tables):
        assert (home_of(table.clients, size) == rank).all()
        assert table.rows(table.clients).tobytes() == single.rows(table.clients).tobytes()


def test_only_vectors_that_exist_or_changed_travel(tmp_path: Path) -> None:
    hosted = [np.arange(1, 20, 2), np.arange(0, 20, 2)]  # every client is away from home

    def body(communicator: ThreadCommunicator) -> tuple[int, int]:
        home, sent = VectorTable(WIDTH, 1 << 20, tmp_path), [0]
        exchange = communicator.exchange

        def counting(parts: list[np.ndarray]) -> list[np.ndarray]:
            sent[0] += sum(len(part) for part in parts if part.ndim == 2)
            return exchange(parts)

        communicator.exchange = counting  # type: ignore[method-assign]
        here = HostedVectors(home, communicator)
        here.fetch(hosted)
        fetched = sent[0]
        here.store(hosted[communicator.rank][:3], rows_of(hosted[communicator.rank][:3], 0))
        here.send_home()
        return fetched, sent[0]

    assert on_ranks(2, body) == [(0, 3), (0, 3)]


def test_on_one_rank_nothing_is_copied(tmp_path: Path) -> None:
    home = VectorTable(WIDTH, 1 << 20, tmp_path)
    here = HostedVectors(home, SerialCommunicator())
    clients = np.arange(5)
    here.fetch([clients])
    here.store(clients, rows_of(clients, 1))
    assert home.rows(clients).tobytes() == rows_of(clients, 1).tobytes()
    here.send_home()
    assert len(home) == 5
