"""Named columns of a file, read whole: for sources that need all rows of a few columns at once (series, texts).

| file | columns |
|---|---|
| `.csv`, or any other name | as `csv` reads it: UTF-8, names in the first line |
| `.parquet` | as `parquet` reads it |
| `.npz` | its arrays of one axis, all of one length; texts as strings of numpy, or UTF-8 in bytes |

A cell that is empty or not finite is an error that names row and column; row 1 is the first below the names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.csv_table import csv_names, csv_pieces
from hpcfsl.data.sources.files import check_texts, file_error
from hpcfsl.data.sources.npz_file import npz_names, read_npz
from hpcfsl.data.sources.parquet import parquet_names, parquet_pieces
from hpcfsl.data.sources.tables import Piece, check_complete
from hpcfsl.errors import ConfigError, shorten
from hpcfsl.settings import suggest


class Columns:
    """The columns of one file.

    Args:
        path: The file; the end of its name says what it is.
        delimiter: What stands between two cells of a CSV file.

    Raises:
        DataError: The file is missing or broken; the text names row and column.
    """

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self._path, self._delimiter, self._kind = path, delimiter, path.suffix.lower()

    def read(self, *, numbers: Sequence[str], texts: Sequence[str]) -> tuple[NDArray[np.float64], list[list[str]]]:
        """Return columns of numbers, float64 [rows, len(numbers)], and columns of texts, each [rows]."""
        parts = list(self._checked(list(numbers), list(texts)))
        if not parts:
            raise file_error(self._path, "has no rows; get the file again")
        table = [
            np.column_stack([_floats(self._path, name, row, part[name]) for name in numbers])
            for row, part in parts
            if numbers
        ]
        found = [[str(text) for _, part in parts for text in part[name]] for name in texts]
        return np.concatenate(table) if table else np.empty((0, 0)), found

    def check_names(self, wanted: Sequence[tuple[str, str]]) -> None:
        """Raise a ConfigError for the first pair (key, name) whose name is no column."""
        known = self._names()
        for key, name in wanted:
            if name not in known:
                raise ConfigError(f"data.{key}", name, suggest(name, known))

    def _checked(self, numbers: list[str], texts: list[str]) -> Iterator[tuple[int, Piece]]:
        row = 1
        for piece in self._pieces(numbers, texts):
            for name, values in piece.items():
                check_complete(self._path, name, row, values)
            yield row, piece
            row += len(next(iter(piece.values())))

    def _names(self) -> list[str]:
        if self._kind == ".npz":
            return npz_names(self._path)
        return parquet_names(self._path) if self._kind == ".parquet" else csv_names(self._path, self._delimiter)

    def _pieces(self, numbers: list[str], texts: list[str]) -> Iterator[Piece]:
        if self._kind == ".npz":
            yield _arrays(self._path, numbers, texts)
        elif self._kind == ".parquet":
            yield from parquet_pieces(self._path, features=numbers, texts=texts)
        else:
            yield from csv_pieces(self._path, self._delimiter, [*numbers, *texts])


def _floats(path: Path, name: str, row: int, values: Sequence[str] | NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(values, np.ndarray):
        return values
    numbers = np.empty(len(values))
    for place, text in enumerate(values):
        try:
            numbers[place] = float(text)
        except ValueError:
            numbers[place] = np.nan
        if not np.isfinite(numbers[place]):
            trouble = f"row {row + place}, column {shorten(name)}: {shorten(text)} is no finite number"
            raise file_error(path, f"{trouble}; mend it or remove the row")
    return numbers


def _arrays(path: Path, numbers: list[str], texts: list[str]) -> Piece:
    arrays = read_npz(path, list(dict.fromkeys((*numbers, *texts))))
    for name, array in arrays.items():
        if array.ndim != 1 or not len(array) or len(array) != len(next(iter(arrays.values()))):
            raise file_error(path, f"array {name} has shape {array.shape}; give one value a row, as many as the others")
        if name in numbers and array.dtype.kind not in "buif":
            raise file_error(path, f"array {name} has type {array.dtype}; give numbers")
    found: dict[str, Any] = {name: arrays[name].astype(np.float64) for name in numbers}
    return found | {name: _as_texts(path, name, arrays[name]) for name in texts}


def _as_texts(path: Path, name: str, array: NDArray[Any]) -> list[str]:
    check_texts(path, name, array)
    if array.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in array.tolist()]
    return [str(value) for value in array.tolist()]
