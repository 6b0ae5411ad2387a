from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hpcfsl.trace.schema import KEYS, TABLES
from hpcfsl.trace.segment import RowBuffer, text_array


@pytest.fixture
def buffer(maker) -> RowBuffer:
    return RowBuffer(len(maker.components))


def changed(record, table: str, column: str, values):
    tables = {name: dict(rows) for name, rows in record.tables.items()}
    tables[table][column] = values
    return replace(record, tables=tables)


def test_rows_come_out_sorted_by_key(maker, buffer: RowBuffer) -> None:
    for round in range(3):
        buffer.add(maker.record(round))
    for table, rows in buffer.tables().items():
        if table == "clients":
            continue
        keys = np.lexsort([rows[key] for key in reversed(KEYS[table])])
        assert np.array_equal(keys, np.arange(len(keys))), table


def test_types_are_those_of_the_schema(maker, buffer: RowBuffer) -> None:
    buffer.add(maker.record(0))
    for table, rows in buffer.tables().items():
        assert list(rows) == [column.name for column in TABLES[table]]
        for column in TABLES[table]:
            assert rows[column.name].dtype == column.numpy


def test_rows_are_copied(maker, buffer: RowBuffer) -> None:
    record = maker.record(0, ("rounds",))
    buffer.add(record)
    record.tables["rounds"]["train_loss"][:] = 5.0
    assert buffer.tables()["rounds"]["train_loss"][0] != 5.0


def test_tables_may_be_left_out(maker, buffer: RowBuffer) -> None:
    buffer.add(maker.record(0, ("rounds",)))
    tables = buffer.tables()
    assert len(tables["rounds"]["round"]) == 1
    assert tables["participation"]["sketch"].shape == (0, 64)
    assert tables["participation"]["components"].shape == (0, 3)


def test_clear_forgets(maker, buffer: RowBuffer) -> None:
    buffer.add(maker.record(0))
    buffer.clear()
    assert all(len(rows[TABLES[table][0].name]) == 0 for table, rows in buffer.tables().items())


@pytest.mark.parametrize("round", [0, 3])
def test_rounds_must_ascend(maker, buffer: RowBuffer, round: int) -> None:
    buffer.add(maker.record(3))
    with pytest.raises(ValueError, match=f"round {round} recorded after round 3"):
        buffer.add(maker.record(round))


def test_unknown_table(maker, buffer: RowBuffer) -> None:
    record = maker.record(0)
    with pytest.raises(ValueError, match="unknown tables"):
        buffer.add(replace(record, tables={"round": {}}))


def test_columns_must_be_complete(maker, buffer: RowBuffer) -> None:
    record = maker.record(0)
    rows = dict(record.tables["rounds"])
    del rows["moved"]
    with pytest.raises(ValueError, match=r"rounds: columns missing or unknown: \['extra', 'moved'\]"):
        buffer.add(replace(record, tables={"rounds": {**rows, "extra": rows["round"]}}))


@pytest.mark.parametrize(
    ("table", "column", "values", "message"),
    [
        ("rounds", "num_groups", np.array([2**31]), "values that do not fit i4"),
        ("rounds", "num_groups", np.array([1.5]), "values that do not fit i4"),
        ("rounds", "model_hash", np.array([-1]), "values that do not fit u8"),
        ("rounds", "moved", np.array([2]), "codes outside 0 to 1"),
        ("rounds", "moved", np.array([-1]), "codes outside 0 to 1"),
        ("rounds", "train_loss", np.zeros(2), r"shape \(2,\) instead of \(1,\)"),
        ("participation", "components", np.zeros((6, 2)), r"shape \(6, 2\) instead of \(6, 3\)"),
        ("rounds", "round", np.array([1]), "rows of another round"),
    ],
)
def test_values_must_fit(maker, buffer: RowBuffer, table: str, column: str, values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        buffer.add(changed(maker.record(0), table, column, values))
    assert buffer.last_round is None, "a refused record leaves nothing behind"
    assert len(buffer.tables()["participation"]["round"]) == 0


def test_truth_values_are_codes(maker, buffer: RowBuffer) -> None:
    buffer.add(changed(maker.record(0), "rounds", "moved", np.array([True])))
    assert buffer.tables()["rounds"]["moved"].tolist() == [1]


def test_text_is_cut_and_escaped() -> None:
    assert text_array(np.array(["abc", "é"]), "S4").tolist() == [b"abc", b"\\xe9"]
    assert text_array(["a much longer text"], "S6").tolist() == [b"a much"]
    assert text_array(np.array([b"raw"]), "S8").dtype == "S8"
    assert text_array(np.array([], dtype=object), "S8").shape == (0,)
