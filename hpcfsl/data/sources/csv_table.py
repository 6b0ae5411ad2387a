"""Your own table as text, one row a line, the names of the columns in the first.

`hpcfsl.data.sources.tables` says what becomes of the columns.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from pydantic import Field

from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.files import file_error
from hpcfsl.data.sources.tables import PIECE_ROWS, Piece, Table
from hpcfsl.errors import DataError


@sources.register
class Csv(Table):
    """Samples from a CSV file."""

    source: Literal["csv"] = "csv"
    """A table in a CSV file, with columns for the class and perhaps the client."""

    file: str = Field(min_length=1)
    """Path of the CSV file: UTF-8, names of the columns in the first line."""

    delimiter: Literal[",", ";", "\t", "|", " "] = ","
    """What stands between two cells."""

    def read_names(self, path: Path) -> list[str]:
        """Return the first line."""
        return csv_names(path, self.delimiter)

    def read_pieces(self, path: Path, *, features: list[str], texts: list[str]) -> Iterator[Piece]:
        """Yield rows as texts."""
        return csv_pieces(path, self.delimiter, [*features, *texts])


def csv_names(path: Path, delimiter: str) -> list[str]:
    """Return the cells of a file's first line; DataError where it cannot be read."""
    return next(_lines(path, delimiter))


def csv_pieces(path: Path, delimiter: str, wanted: list[str]) -> Iterator[Piece]:
    """Yield rows in order, at most `PIECE_ROWS` at once: the texts of each column that is wanted."""
    lines = _lines(path, delimiter)
    names = next(lines)
    known = {name: place for place, name in reversed(list(enumerate(names)))}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise file_error(path, f"has no column {missing[0]!r}; give it the columns of data.file")
    places = {name: known[name] for name in wanted}
    row = 1
    while rows := list(islice(lines, PIECE_ROWS)):
        for place, cells in enumerate(rows):
            if len(cells) != len(names):
                raise file_error(path, f"row {row + place} has {len(cells)} cells, not {len(names)}; mend it")
        yield {name: [cells[place] for cells in rows] for name, place in places.items()}
        row += len(rows)


def _lines(path: Path, delimiter: str) -> Iterator[list[str]]:
    """Yield the cells of each line that is not blank, the names first."""
    number, found = 0, False
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for cells in csv.reader(file, delimiter=delimiter, strict=True):
                number += 1
                if cells:
                    found = True
                    yield [cell.strip() for cell in cells]
    except DataError:
        raise
    except (csv.Error, UnicodeDecodeError) as error:
        raise file_error(path, f"line {number + 1} or soon after is no CSV in UTF-8 ({error}); mend it") from None
    except OSError as error:
        raise file_error(path, f"{error.strerror}; get the file again") from None
    if not found:
        raise file_error(path, "is empty; get the file again")
