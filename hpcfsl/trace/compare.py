"""Where two runs first differ: the round, the client or group, the column and both values.

Layer 3. With `rtol = 0` two runs are equal exactly where their digests are. A tolerance is for runs that may round
differently (another device, another chunk size): floats are then compared relative to the larger one, vectors
(components, sketches, updates, weights) relative to their largest entry, and hashes of float bits not at all.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import shorten
from hpcfsl.trace.reader import Run
from hpcfsl.trace.schema import KEYS, TABLES


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first difference of two runs.

    Attributes:
        round: The round; None where it is no round's.
        where: Table, `updates`, `weights` or `settings`, with the client or group.
        column: The column, or what else differs.
        a: The value in the first run; None where it has none.
        b: The value in the second run; None where it has none.
    """

    round: int | None
    where: str
    column: str
    a: Any
    b: Any

    @property
    def text(self) -> str:
        """The difference as one line."""
        place = "" if self.round is None else f"round {self.round}, "
        return f"{place}{self.where}, {self.column}: {shorten(self.a)} != {shorten(self.b)}"


def compare(a: Run, b: Run, rtol: float = 0.0) -> Difference | None:
    """Return the first difference of two runs, by round, then table, row and column; None where they are equal.

    Args:
        a: A run.
        b: Another run.
        rtol: Relative tolerance for floats, >= 0.

    Raises:
        RunFolderError: A file of either run is damaged, or nothing was committed yet.
    """
    for run in (a, b):
        run.verify()
    if a.component_names != b.component_names:
        return _other("participation", "component names", a.component_names, b.component_names)
    found = [_compare_table(a, b, table, rtol) for table in TABLES]
    first = min((one for one in found if one is not None), key=lambda one: one.round or 0, default=None)
    return _compare_updates(a, b, rtol, None if first is None else first.round) or first or _compare_rest(a, b, rtol)


def _compare_table(a: Run, b: Run, table: str, rtol: float) -> Difference | None:
    columns = [column for column in TABLES[table] if column.deterministic and not (rtol > 0 and column.bits)]
    if not columns:
        return None
    keys = [(a.column(table, key), b.column(table, key)) for key in KEYS[table]]
    common = min(len(keys[0][0]), len(keys[0][1]))
    # Keys are columns too, and the first ones: a row that one run lacks shows as a key that differs.
    row, worst = common, None
    for column in columns:
        pair = (a.column(table, column.name), b.column(table, column.name))
        differs = np.flatnonzero(_differs(pair[0][:row], pair[1][:row], rtol))
        if differs.size:
            row, worst = int(differs[0]), (column.name, pair[0][differs[0]], pair[1][differs[0]])
    if worst is None and len(keys[0][0]) == len(keys[0][1]):
        return None
    round = min(int(side[row]) for side in keys[0] if row < len(side))
    entity = _entity(table, [side[0] if row < len(side[0]) else side[1] for side in keys], row)
    if worst is None:
        present = [_present(side, row) for side in keys[0]]
        return Difference(round=round, where=entity, column="row", a=present[0], b=present[1])
    return Difference(round=round, where=entity, column=worst[0], a=_plain(worst[1]), b=_plain(worst[2]))


def _differs(a: NDArray[Any], b: NDArray[Any], rtol: float) -> NDArray[np.bool_]:
    """Return which rows differ, bool [rows], of arrays [rows] or [rows, axis]."""
    if a.dtype.kind != "f":
        return np.asarray(a != b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if rtol > 0:
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.maximum(np.abs(a), np.abs(b))
            if a.ndim == 2:
                size = np.max(np.where(np.isfinite(size), size, 0), axis=1, keepdims=True, initial=0)
            same |= (np.abs(a - b) <= rtol * size) & np.isfinite(a) & np.isfinite(b)
    differs: NDArray[np.bool_] = ~same if a.ndim == 1 else ~same.all(axis=1)
    return differs


def _compare_updates(a: Run, b: Run, rtol: float, before: int | None) -> Difference | None:
    for one, other in itertools.zip_longest(a.updates(before), b.updates(before)):
        if one is None or other is None or one[0] != other[0]:
            keys = [side[0] if side else None for side in (one, other)]
            round = min(key.round for key in keys if key is not None)
            names = [key.name if key else None for key in keys]
            return Difference(round=round, where="updates", column="recorded", a=names[0], b=names[1])
        found = _compare_vectors(one[1], other[1], rtol)
        if found is not None:
            where = f"updates {one[0].name}"
            return Difference(round=one[0].round, where=where, column=found[0], a=found[1], b=found[2])
    return None


def _compare_vectors(a: NDArray[Any], b: NDArray[Any], rtol: float) -> tuple[str, Any, Any] | None:
    if a.dtype != b.dtype or a.shape != b.shape:
        return "type", f"{a.dtype} {a.shape}", f"{b.dtype} {b.shape}"
    if not _differs(a[None], b[None], rtol)[0]:
        return None
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype(np.float64) - b)
    entry = int(np.argmax(np.where((a == b) | (np.isnan(a) & np.isnan(b)), -1, np.nan_to_num(gap, nan=np.inf))))
    return f"entry {entry}", _plain(a[entry]), _plain(b[entry])


def _compare_rest(a: Run, b: Run, rtol: float) -> Difference | None:
    if a.rounds_done != b.rounds_done:
        return _other("run", "rounds done", a.rounds_done, b.rounds_done)
    found = _compare_vectors(a.weights(), b.weights(), rtol)
    if found is not None:
        return _other("weights", *found)
    if rtol == 0 and a.result_settings != b.result_settings:
        return _other("settings", "result settings", a.result_settings, b.result_settings)
    return None


def _other(where: str, column: str, a: Any, b: Any) -> Difference:
    return Difference(round=None, where=where, column=column, a=a, b=b)


def _entity(table: str, keys: list[NDArray[Any]], row: int) -> str:
    rest = zip(KEYS[table][1:], keys[1:], strict=True)
    return ", ".join([table, *(f"{name} {int(values[row])}" for name, values in rest)])


def _present(values: NDArray[Any], row: int) -> str | None:
    return "present" if row < len(values) else None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
