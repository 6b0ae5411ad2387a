from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcfsl.trace.schema import KEYS, TABLES, TITLES, find_column, row_bytes, schema_markdown

PAGE = Path(__file__).parents[2] / "docs" / "trace-format.md"
COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]


def test_documentation_is_the_schema() -> None:
    assert PAGE.read_text("utf-8") == schema_markdown()


def test_every_table_has_a_title_and_keys_among_its_columns() -> None:
    assert set(TABLES) == set(TITLES) == set(KEYS)
    for table, keys in KEYS.items():
        names = [column.name for column in TABLES[table]]
        assert len(set(names)) == len(names)
        assert set(keys) <= set(names)


def test_keys_of_tables_in_the_digest_are_deterministic() -> None:
    for table, columns in TABLES.items():
        if any(column.deterministic for column in columns):
            assert all(find_column(table, key).deterministic for key in KEYS[table])


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[f"{table}.{column.name}" for table, column in COLUMNS])
def test_column_is_well_formed(table: str, column) -> None:
    assert column.units in {"1", "byte", "s"}
    assert column.long_name
    assert column.description.endswith(".")
    assert column.numpy.kind in "iufS"
    assert (column.units == "byte") == column.name.startswith("bytes_")
    if column.flags:
        assert column.dtype == "i1"
        assert not any(" " in flag for flag in column.flags), "CF separates flag_meanings by blanks"
    # xarray refuses a two-dimensional variable with the name of one of its dimensions.
    assert column.axis != column.name
    assert f"`{column.name}`" in schema_markdown()


def test_shapes() -> None:
    assert find_column("participation", "round").shape(4, 3) == (4,)
    assert find_column("participation", "components").shape(4, 3) == (4, 3)
    assert find_column("participation", "sketch").shape(4, 3) == (4, 64)


def test_row_bytes_is_the_size_of_a_row() -> None:
    rows = {c.name: np.empty(c.shape(1, 3), c.numpy) for c in TABLES["participation"]}
    assert row_bytes("participation", 3) == sum(array.nbytes for array in rows.values())
    assert row_bytes("events", 3) == 32 + 4 + 16 + 240


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(KeyError, match=r"no table 'round'.*participation"):
        find_column("round", "round")
    with pytest.raises(KeyError, match=r"no column 'ronud' in rounds.*test_accuracy"):
        find_column("rounds", "ronud")
