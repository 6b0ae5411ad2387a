"""One sha256 over everything deterministic in a run: the equality test of runs.

Layer 3. Two runs with the same result settings that record the same updates have the same digest, on any number of
ranks and with any restarts. It reads content by key, so the edges of segments, the files of ranks and the order of
writing do not matter; how many rounds were asked for, times, hosts and events are left out, and so are optional columns
without a value. NaN and -0 are made canonical first.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.reader import Run
from hpcfsl.trace.schema import FORMAT_VERSION, TABLES


def digest(run: Run) -> str:
    """Return the sha256 of a run, hexadecimal, after a check of all its files.

    Raises:
        RunFolderError: A file is damaged, or nothing was committed yet.
    """
    run.verify()
    parts: dict[str, Any] = {
        "format": FORMAT_VERSION.split(".")[0],
        "result_settings": run.result_settings,
        "component_names": run.component_names,
        "rounds_done": run.rounds_done,
        "tables": {table: _table(run, table) for table in TABLES},
        "updates": _updates(run),
        "weights": _array(run.weights()),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def canonical(array: NDArray[Any]) -> bytes:
    """Return the bytes of an array, little-endian, with one NaN and no -0."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    if array.dtype.kind == "f":
        array = array + array.dtype.type(0)  # -0 + 0 is 0
        array[np.isnan(array)] = np.nan
    return array.tobytes()


def _table(run: Run, table: str) -> dict[str, str]:
    columns = [column for column in TABLES[table] if column.deterministic]
    names = tuple(column.name for column in columns)
    hashes = {name: hashlib.sha256() for name in names}
    unknown = {column.name for column in columns if column.optional}
    # Column by column over segments, so that the bytes hashed do not depend on where a segment ends.
    for part in run.segments(table, names) if names else ():
        for name in names:
            hashes[name].update(canonical(part[name]))
        unknown = {name for name in unknown if np.isnan(part[name]).all()}
    return {name: found.hexdigest() for name, found in hashes.items() if name not in unknown}


def _updates(run: Run) -> str:
    total = hashlib.sha256()
    for key, vector in run.updates():
        total.update(f"{key.name} {_array(vector)}\n".encode())
    return total.hexdigest()


def _array(array: NDArray[Any]) -> str:
    return f"{array.dtype.name} {array.shape} {hashlib.sha256(canonical(array)).hexdigest()}"
