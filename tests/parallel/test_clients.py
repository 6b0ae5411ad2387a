from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.parallel.clients import COLUMNS, ClientTable

ids = st.sets(st.integers(0, 50), min_size=1, max_size=12)
values = st.one_of(st.just(float("nan")), st.floats(-10, 10))


@given(st.lists(st.tuples(ids, st.sampled_from(COLUMNS), st.randoms()), max_size=8))
def test_against_a_dictionary(steps: list) -> None:
    table, known = ClientTable(), {column: {} for column in COLUMNS}
    seen: set[int] = set()
    for clients, column, random in steps:
        order = np.array(sorted(clients))
        new = np.array([random.choice([np.nan, random.uniform(-9, 9)]) for _ in order])
        table.update(order, **{column: new})
        seen |= clients
        known[column].update({int(c): v for c, v in zip(order, new, strict=True) if not np.isnan(v)})
    assert len(table) == len(seen)
    asked = np.random.default_rng(0).permutation(51)
    for column in COLUMNS:
        wanted = [known[column].get(int(client), np.nan) for client in asked]
        np.testing.assert_array_equal(table.look_up(column, asked), wanted)


def test_arrays_bring_a_table_back() -> None:
    table = ClientTable()
    table.update(np.array([5, 9]), credit=np.array([1.0, np.nan]), first_round=np.array([0.0, 0.0]))
    table.update(np.array([2, 9]), weight=np.array([0.5, 0.7]), credit=np.array([3.0, np.nan]))
    again = ClientTable(table.arrays())
    assert table.arrays()["clients"].tolist() == [2, 5, 9]
    for column in COLUMNS:
        np.testing.assert_array_equal(again.look_up(column, np.arange(12)), table.look_up(column, np.arange(12)))


def test_older_arrays_may_lack_a_column() -> None:
    table = ClientTable({"clients": np.array([1, 4]), "credit": np.array([2.0, 3.0])})
    assert table.look_up("credit", np.array([4, 1, 0])).tolist()[:2] == [3.0, 2.0]
    assert np.isnan(table.look_up("weight", np.array([1, 4]))).all()


def test_nothing_is_known_at_first() -> None:
    assert len(ClientTable()) == 0
    assert np.isnan(ClientTable().look_up("credit", np.array([3, 1]))).all()


def test_memory_follows_the_clients_seen() -> None:
    table = ClientTable()
    table.update(np.array([19_999_999]), credit=np.array([1.0]))
    assert sum(array.nbytes for array in table.arrays().values()) == 32
