from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import reader
from hpcfsl.trace.compare import Difference, compare
from hpcfsl.trace.digest import canonical, digest
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.schema import TABLES
from hpcfsl.trace.updates import UpdateKey

COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]
IDS = [f"{table}.{column.name}" for table, column in COLUMNS]
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


class Memory(reader.Run):
    """A run that was read once, with changes made on the way out: a new folder for each change would take minutes."""

    rounds_done, component_names, result_settings = 0, (), ""  # properties of `Run`, plain here

    def __init__(self, run: reader.Run) -> None:
        self.rounds_done, self.component_names, self.result_settings = (
            run.rounds_done,
            run.component_names,
            run.result_settings,
        )
        self.parts = {table: list(run.segments(table)) for table in TABLES}
        self.vectors = list(run.updates())
        self.state = run.weights()

    def copy(self) -> Memory:
        return copy.deepcopy(self)

    def verify(self) -> None:
        pass

    def segments(self, table: str, names: tuple[str, ...] | None = None) -> Iterator[dict[str, np.ndarray]]:
        yield from self.parts[table]

    def updates(self, end_round: int | None = None) -> Iterator[tuple[UpdateKey, np.ndarray]]:
        yield from (pair for pair in self.vectors if end_round is None or pair[0].round < end_round)

    def weights(self) -> np.ndarray:
        return self.state

    def join(self) -> Memory:
        """Make one segment of all."""
        for table, parts in self.parts.items():
            self.parts[table] = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}]
        return self

    def edit(self, table: str, column: str, row: int, change: Callable[[Any], Any]) -> Memory:
        """Return a copy with one row of a column changed; rows count over the whole run."""
        made = self.copy().join()
        values = made.parts[table][0][column]
        values[row] = change(values[row])
        return made

    def drop(self, table: str, rows: list[int] | slice) -> Memory:
        """Return a copy without some rows."""
        made = self.copy().join()
        made.parts[table] = [{name: np.delete(values, rows, axis=0) for name, values in made.parts[table][0].items()}]
        return made


def other_value(column: Any) -> Callable[[Any], Any]:
    if column.is_text:
        return lambda value: b"changed"
    if column.is_float:
        return lambda value: np.float32(0.25) if np.isnan(np.asarray(value)).any() else value + 1
    return lambda value: (int(value) + 1) % (len(column.flags) or 1000)


@pytest.fixture(scope="module")
def stored(finished: Path) -> reader.Run:
    return reader.open(finished)


@pytest.fixture(scope="module")
def run(stored: reader.Run) -> Memory:
    return Memory(stored)


def test_digest_is_a_sha256(stored: reader.Run) -> None:
    assert re.fullmatch("[0-9a-f]{64}", digest(stored))


@pytest.mark.parametrize(
    ("stops", "ranks", "buffer_bytes"),
    [(((5,),), 2, 1), (((1, 2, 3, 4, 5),), 1, 700), (((2,), (3, 5)), 3, 1 << 20), (((1,), (4,), (5,)), 2, 300)],
)
def test_same_whatever_the_segments_restarts_ranks_and_files(
    maker, stored: reader.Run, tmp_path: Path, stops, ranks: int, buffer_bytes: int
) -> None:
    for edges in stops:
        raised = maker.ranks(ranks, lambda c, edges=edges: maker.run(tmp_path, edges, c, buffer_bytes=buffer_bytes))
        assert raised == [None] * ranks
    other = reader.open(tmp_path)
    assert digest(other) == digest(stored)
    assert compare(stored, other) is None


@given(cuts=st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=20, **SLOW)
def test_digest_does_not_see_the_edges_of_segments(run: Memory, cuts: list[int]) -> None:
    other = run.copy().join()
    for table, (whole,) in other.parts.items():
        edges = [0, *sorted(cuts), 1000]
        other.parts[table] = [
            {name: values[start:end] for name, values in whole.items()} for start, end in itertools.pairwise(edges)
        ]
    assert digest(other) == digest(run)
    assert compare(other, run) is None


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=IDS)
def test_each_column_counts_exactly_where_it_is_deterministic(run: Memory, table: str, column: Any) -> None:
    row = run.table(table)["round"].tolist().index(3) if "round" in run.table(table) else 2
    other = run.edit(table, column.name, row, other_value(column))
    found = compare(run, other)
    assert (digest(other) == digest(run)) == (not column.deterministic) == (found is None)
    if found is not None:
        assert found.round == (0 if table == "clients" else 3)
        assert found.where.split(",")[0] == table
        assert found.column == column.name
        assert "\n" not in found.text


@settings(max_examples=25, **SLOW)
@given(round=st.integers(0, 4), row=st.integers(0, 5), data=st.data())
def test_compare_finds_the_place(maker, run: Memory, round: int, row: int, data: Any) -> None:
    names = ["credit_score", "group", "update_hash", "sketch", "components", "bytes_model_up"]
    name = data.draw(st.sampled_from(names))
    column = next(column for column in TABLES["participation"] if column.name == name)
    at = round * maker.clients + row
    other = run.edit("participation", name, at, other_value(column)).edit("rounds", "train_loss", 4, lambda value: 17.0)
    found = compare(other, run)
    assert (found.round, found.where, found.column) == (round, f"participation, client {row}", name)
    for value, side in ((found.a, other), (found.b, run)):
        expected = side.column("participation", name)[at].tolist()
        assert np.array_equal(value, expected, equal_nan=name in ("credit_score", "sketch", "components"))


def test_an_optional_column_without_a_value_leaves_the_digest_as_it_was(
    run: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    optional = {(table, column.name) for table, column in COLUMNS if column.optional}
    assert optional == {("participation", "screening_score"), ("group_rounds", "screening_threshold")}
    without = run.copy()
    for table, name in optional:
        for part in without.parts[table]:
            part[name][:] = np.nan
    found = digest(without)
    assert found != digest(run)
    last = without.copy()
    last.parts["participation"][-1]["screening_score"][-1] = 0.0
    assert digest(last) != found
    for table in ("participation", "group_rounds"):
        monkeypatch.setitem(TABLES, table, tuple(column for column in TABLES[table] if not column.optional))
    assert digest(run) == digest(without) == digest(last) == found


def test_text_is_one_line_that_names_all() -> None:
    found = Difference(round=3, where="participation, client 7", column="credit_score", a=0.5, b=None)
    assert found.text == "round 3, participation, client 7, credit_score: 0.5 != None"
    assert Difference(round=None, where="weights", column="entry 1", a=1, b=2).text == "weights, entry 1: 1 != 2"


def test_missing_row_in_the_middle(maker, run: Memory) -> None:
    found = compare(run, run.drop("participation", [maker.clients + 2]))
    assert found.text == "round 1, participation, client 2, client: 2 != 3"


def test_missing_last_row(run: Memory) -> None:
    other = run.drop("participation", [-1])
    assert compare(run, other).text == "round 4, participation, client 5, row: 'present' != None"
    assert compare(other, run).text == "round 4, participation, client 5, row: None != 'present'"


def test_shorter_run(maker, stored: reader.Run, tmp_path: Path) -> None:
    other = reader.open(maker.run(tmp_path, (3,)))
    found = compare(other, stored)
    assert (found.round, found.column, found.a, found.b) == (3, "row", None, "present")
    assert digest(other) != digest(stored)


def test_rounds_without_rows(run: Memory) -> None:
    other = run.copy()
    other.rounds_done += 1
    assert compare(run, other).text == "run, rounds done: 5 != 6"
    assert digest(run) != digest(other)


def bumped(run: Memory, number: int, amount: float = 0.5) -> Memory:
    """Return a copy with entry 5 of an update changed."""
    made = run.copy()
    made.vectors[number][1][5] += amount
    return made


def test_update_that_differs(run: Memory) -> None:
    other = bumped(run, 8)
    found = compare(run, other)
    assert (found.round, found.where, found.column) == (2, "updates round_000002/group_0001", "entry 5")
    assert found.b == pytest.approx(found.a + 0.5)
    assert digest(other) != digest(run)


def test_update_of_an_earlier_round_comes_first_and_of_the_same_round_last(run: Memory) -> None:
    changed = run.edit("rounds", "train_loss", 2, lambda value: 17.0)
    assert compare(run, bumped(changed, 3)).where == "updates round_000001/global"
    assert compare(run, bumped(changed, 6)).where == "rounds"


def test_updates_recorded_by_one_run_only(run: Memory) -> None:
    other = run.copy()
    other.vectors = []
    assert compare(run, other).text == "round 0, updates, recorded: 'round_000000/global' != None"
    assert compare(other, run).text == "round 0, updates, recorded: None != 'round_000000/global'"
    other.vectors = run.vectors[1:]
    assert compare(other, run).text == "round 0, updates, recorded: 'round_000000/group_0000' != 'round_000000/global'"


def test_precision_of_updates(run: Memory) -> None:
    other = run.copy()
    other.vectors = [(key, vector.astype(np.float16)) for key, vector in run.vectors]
    found = compare(run, other, rtol=0.1)
    assert (found.column, found.a, found.b) == ("type", "float32 (37,)", "float16 (37,)")


@pytest.mark.parametrize("value", [9.0, np.nan, np.inf])
def test_weights_that_differ(run: Memory, value: float) -> None:
    other = run.copy()
    other.state[3] = value
    found = compare(run, other, rtol=0.1)
    assert (found.round, found.where, found.column) == (None, "weights", "entry 3")
    assert (found.a, str(found.b)) == (float(run.state[3]), str(value))
    assert digest(run) != digest(other)


def test_weights_of_another_size(run: Memory) -> None:
    other = run.copy()
    other.state = run.state[:-1]
    assert compare(run, other).text == "weights, type: 'float32 (37,)' != 'float32 (36,)'"


def test_settings_come_last_and_only_without_tolerance(run: Memory) -> None:
    other = run.copy()
    other.result_settings = '{"seed":8}'
    assert compare(run, other).where == "settings"
    assert compare(run, other, rtol=1e-9) is None
    assert digest(run) != digest(other)


def test_component_names_count(run: Memory) -> None:
    other = run.copy()
    other.component_names = ("distance", "norm", "spectral")
    assert compare(run, other).column == "component names"
    assert digest(run) != digest(other)


def test_tolerance(run: Memory) -> None:
    other, factor = run.copy().join(), 1 + 1e-6
    for table, columns in TABLES.items():
        for column in columns:
            if column.is_float:
                other.parts[table][0][column.name] *= factor
            if column.bits:
                other.parts[table][0][column.name] += np.uint64(1)
    other.vectors = [(key, vector * np.float32(factor)) for key, vector in run.vectors]
    assert compare(run, other) is not None
    assert compare(run, other, rtol=1e-5) is None
    assert compare(run, other, rtol=1e-7) is not None


def test_vectors_are_compared_relative_to_their_largest_entry(run: Memory) -> None:
    other = run.copy()
    other.state[0], other.state[1] = 1e-12, 1000.0
    base = other.copy()
    other.state[0] = 2e-12
    assert compare(base, other, rtol=1e-9) is None
    assert compare(base, other).column == "entry 0"


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_no_tolerance_reaches_infinity(run: Memory, value: float) -> None:
    finite = run.edit("rounds", "train_loss", 1, lambda old: 3.0)
    infinite = run.edit("rounds", "train_loss", 1, lambda old: value)
    assert compare(finite, infinite, rtol=0.5).column == "train_loss"
    assert compare(infinite, infinite.copy(), rtol=0.5) is None


def test_one_zero_and_one_nan(run: Memory) -> None:
    payload = np.array([0x7FF8000000000123], np.uint64).view(np.float64)[0]
    for pair in [(0.0, -0.0), (np.nan, payload), (np.nan, -np.nan)]:
        a, b = (run.edit("rounds", "train_loss", 1, lambda old, value=value: value) for value in pair)
        assert digest(a) == digest(b)
        assert compare(a, b) is None


@given(npst.arrays(st.sampled_from([np.float16, np.float32, np.float64, np.int64]), npst.array_shapes(max_dims=2)))
def test_canonical_bytes_are_equal_exactly_where_values_are(array: np.ndarray) -> None:
    assert canonical(array) == canonical(array.copy())
    assert canonical(array) == canonical(array.astype(array.dtype.newbyteorder(">")))
    assert canonical(array) == canonical(np.asfortranarray(array))
    if array.dtype.kind == "f":
        swapped = np.where(array == 0, -array, array)
        swapped = np.where(np.isnan(swapped), -swapped, swapped)
        assert canonical(array) == canonical(swapped)
    changed = array.copy()
    changed.flat[0] = 1 if changed.flat[0] != 1 else 2
    assert canonical(array) != canonical(changed)


def test_nothing_committed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.config.write_text("")
    with pytest.raises(RunFolderError, match="no checkpoint yet"):
        digest(reader.open(tmp_path))
