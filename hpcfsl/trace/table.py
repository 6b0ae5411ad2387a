"""A recorded table as comma-separated values, for a spreadsheet or any other program.

Layer 3. Needs no pandas. Codes are written as their names, a missing number as an empty cell, floats with all their
digits, `components` and `sketch` spread over columns; written segment by segment, so memory does not grow with the
run.
"""

from __future__ import annotations

import csv
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.reader import Run
from hpcfsl.trace.schema import TABLES


def write_csv(run: Run, table: str, stream: TextIO) -> None:
    """Write a table with a header line.

    Args:
        run: The run.
        table: A name of `hpcfsl.trace.schema.TABLES`.
        stream: Where to; open it with `newline=""`.

    Raises:
        KeyError: There is no such table.
        RunFolderError: A segment is damaged.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([name for name, _ in run.flat(table, run.empty(table))])
    codes = {column.name: column.flags for column in TABLES[table]}
    for rows in run.segments(table):
        cells = [_cells(values, codes.get(name, ())) for name, values in run.flat(table, rows)]
        writer.writerows(zip(*cells, strict=True))


def _cells(values: NDArray[Any], names: tuple[str, ...]) -> list[Any]:
    if names:
        return [names[value] for value in values.tolist()]
    if values.dtype.kind == "f":
        # numpy's text is the shortest that reads back to the same bits in the column's own precision.
        values = np.where(np.isnan(values), "", values.astype("U32"))
    cells: list[Any] = values.tolist()
    return cells
