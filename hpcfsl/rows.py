"""Sets of rows of the trace: joined, put in order, and gathered on root.

Layer 4. All tables of a round travel as one message a rank, arrays as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.parallel.communicator import Communicator

Rows = dict[str, NDArray[Any]]


def gather_tables(
    tables: Mapping[str, list[Rows]], keys: Mapping[str, str], communicator: Communicator
) -> dict[str, Rows]:
    """Collective. Return every rank's rows on root, each table ordered by its key; an empty one elsewhere.

    Args:
        tables: Row sets of each table; a rank may have none.
        keys: The column that orders each table.
        communicator: The ranks.
    """
    joined = {table: join_rows(parts) for table, parts in tables.items() if parts}
    columns = {f"{table}/{name}": values for table, rows in joined.items() for name, values in rows.items()}
    gathered = communicator.gather_columns(columns)
    if communicator.rank != 0:
        return {}
    return {table: merge_rows(_rows_of(gathered, table), key) for table, key in keys.items()}


def merge_rows(parts: list[Rows], key: str) -> Rows:
    """Return several row sets as one, ordered by a column."""
    columns = join_rows(parts)
    order = np.argsort(columns[key], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def join_rows(parts: list[Rows]) -> Rows:
    """Return several row sets one after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _rows_of(gathered: list[Rows], table: str) -> list[Rows]:
    """Return one table's rows, a set for each rank that has some."""
    start = f"{table}/"
    parts = [{name[len(start) :]: found[name] for name in found if name.startswith(start)} for found in gathered]
    return [part for part in parts if part]
