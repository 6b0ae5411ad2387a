"""The tables of a block of rounds: rows as they come in, and the segment file they become.

Layer 3. The root buffers the rows of each round and writes them as one compressed file at the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.column import SKETCH_SIZE, Column
from hpcfsl.trace.hdf5 import build, described, put_array, put_attributes, put_text
from hpcfsl.trace.record import RoundRecord, RunTexts
from hpcfsl.trace.schema import KEYS, TABLES

Rows = dict[str, NDArray[Any]]


class RowBuffer:
    """Rows of the rounds since the last commit.

    Args:
        num_components: Length of the axis `component`.
    """

    def __init__(self, num_components: int) -> None:
        self._num_components = num_components
        self._parts: dict[str, list[Rows]] = {table: [] for table in TABLES}
        self.last_round: int | None = None

    def add(self, record: RoundRecord) -> None:
        """Take over the rows of a round; the arrays are copied.

        Raises:
            ValueError: A round out of order, an unknown table, a missing column, or values that do not fit its type.
        """
        if self.last_round is not None and record.round <= self.last_round:
            raise ValueError(f"round {record.round} recorded after round {self.last_round}")
        unknown = set(record.tables) - set(TABLES)
        if unknown:
            raise ValueError(f"unknown tables {sorted(unknown)}")
        ready = {table: self._ready(table, values, record.round) for table, values in record.tables.items()}
        self.last_round = record.round
        for table, rows in ready.items():
            self._parts[table].append(rows)

    def tables(self) -> dict[str, Rows]:
        """Return all tables, those without rows included."""
        return {table: self._joined(table) for table in TABLES}

    def clear(self) -> None:
        """Forget all rows."""
        self._parts = {table: [] for table in TABLES}

    def _ready(self, table: str, values: Mapping[str, NDArray[Any]], round: int) -> Rows:
        wanted = {column.name for column in TABLES[table]}
        if set(values) != wanted:
            raise ValueError(f"{table}: columns missing or unknown: {sorted(wanted ^ set(values))}")
        num_rows = len(np.asarray(values[TABLES[table][0].name]))
        columns = TABLES[table]
        rows = {c.name: _fitted(table, c, values[c.name], c.shape(num_rows, self._num_components)) for c in columns}
        if any(c.name == "round" and c.deterministic for c in columns) and np.any(rows["round"] != round):
            raise ValueError(f"{table}: rows of another round in the record of round {round}")
        order = np.lexsort([rows[key] for key in reversed(KEYS[table])])
        return {name: array[order] for name, array in rows.items()}

    def _joined(self, table: str) -> Rows:
        parts = self._parts[table]
        if not parts:
            return {c.name: np.empty(c.shape(0, self._num_components), c.numpy) for c in TABLES[table]}
        return {c.name: np.concatenate([part[c.name] for part in parts]) for c in TABLES[table]}


def segment_name(first_round: int, end_round: int) -> str:
    """Return the file name of the segment of rounds `first_round` to `end_round - 1`."""
    return f"segment_{first_round:06d}_{end_round:06d}.h5"


def segment_bytes(tables: Mapping[str, Rows], *, first_round: int, end_round: int, texts: RunTexts) -> memoryview:
    """Return the bytes of a segment file."""

    def fill(file: Any) -> None:
        put_attributes(file, {"first_round": first_round, "end_round": end_round})
        put_texts(file, texts)
        for table, rows in tables.items():
            _put_table(file.create_group(table), table, rows, texts.component_names)
        _put_row_start(file["participation"], tables["participation"]["round"], first_round, end_round)

    return build(fill)


def put_texts(file: Any, texts: RunTexts) -> None:
    """Write what every file carries about the run."""
    put_text(file, "config", texts.config_text, "The resolved configuration, TOML.")
    put_text(file, "provenance", texts.provenance, "Versions, machine and command line, JSON.")
    # A dataset, because an attribute of more than 64 KiB needs storage that not every reader knows.
    put_text(file, "result_settings", texts.result_settings, "The settings that bear on the result, canonical JSON.")


def text_array(values: Any, dtype: str) -> NDArray[Any]:
    """Return texts as fixed-length ASCII, others escaped, cut at the width of `dtype`; any shape."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return array.astype(dtype)
    plain = [str(value).encode("ascii", "backslashreplace") for value in array.ravel()]
    return np.array(plain, dtype=dtype).reshape(array.shape)


def _fitted(table: str, column: Column, values: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    array = text_array(values, column.dtype) if column.is_text else np.asarray(values)
    if array.shape != shape:
        raise ValueError(f"{table}.{column.name}: shape {array.shape} instead of {shape}")
    fitted = array if array.dtype == column.numpy else _converted(table, column, array)
    if column.flags and fitted.size and not 0 <= int(fitted.min()) <= int(fitted.max()) < len(column.flags):
        raise ValueError(f"{table}.{column.name}: codes outside 0 to {len(column.flags) - 1}")
    return fitted


def _converted(table: str, column: Column, array: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        fitted = array.astype(column.numpy)
    if not (column.is_text or column.is_float) and not np.array_equal(fitted, array):
        raise ValueError(f"{table}.{column.name}: values that do not fit {column.dtype}")
    return fitted


def _put_table(group: Any, table: str, rows: Rows, component_names: tuple[str, ...]) -> None:
    columns = TABLES[table]
    num_rows = len(rows[columns[0].name])
    scales = {"row": _put_scale(group, "row", np.arange(num_rows), "Number of the row in this segment.")}
    axes = {column.axis for column in columns}
    if "component" in axes:
        names = text_array(np.array(component_names, dtype=object), f"S{max([1, *map(len, component_names)])}")
        scales["component"] = _put_scale(group, "component", names, "Names of the score components.")
    if "projection" in axes:
        scales["projection"] = _put_scale(group, "projection", np.arange(SKETCH_SIZE), "Number of the projection.")
    for column in columns:
        dataset = put_array(group, column.name, rows[column.name], missing=column.missing)
        put_attributes(dataset, _attributes(column))
        dataset.dims[0].attach_scale(scales["row"])
        if column.axis is not None:
            dataset.dims[1].attach_scale(scales[column.axis])


def _attributes(column: Column) -> dict[str, Any]:
    found = described(column.units, column.long_name, column.description, column.deterministic)
    if column.flags:
        found |= {"flag_values": np.arange(len(column.flags), dtype="i1"), "flag_meanings": " ".join(column.flags)}
    if column.missing is not None:
        found["_FillValue"] = column.numpy.type(column.missing)
    return found


def _put_scale(group: Any, name: str, values: NDArray[Any], description: str) -> Any:
    scale = put_array(group, name, values)
    scale.make_scale(name)
    put_attributes(scale, described("1", name.replace("_", " "), description, False))
    return scale


def _put_row_start(group: Any, rounds: NDArray[Any], first_round: int, end_round: int) -> None:
    numbers = np.arange(first_round, end_round)
    scale = _put_scale(group, "segment_round", numbers, "Rounds of this segment.")
    starts = put_array(group, "row_start", np.searchsorted(rounds, numbers).astype("<i8"))
    put_attributes(starts, described("1", "row start", "Row at which the round begins.", False))
    starts.dims[0].attach_scale(scale)
