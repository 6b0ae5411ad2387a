"""Your own table as Parquet, which pandas, Spark and databases write; needs `pip install 'hpcfsl[parquet]'`.

`hpcfsl.data.sources.tables` says what becomes of the columns. Numbers and truth values stay numbers, texts become
categories; a column of any other type can be left out through `data.features`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.files import check_fits, file_error
from hpcfsl.data.sources.tables import PIECE_ROWS, Piece, Table
from hpcfsl.errors import DataError, UserError


@sources.register
class Parquet(Table):
    """Samples from a Parquet file."""

    source: Literal["parquet"] = "parquet"
    """A table in a Parquet file, with columns for the class and perhaps the client."""

    file: str = Field(min_length=1)
    """Path of the Parquet file."""

    def read_names(self, path: Path) -> list[str]:
        """Return the names in the file's schema."""
        return parquet_names(path)

    def read_pieces(self, path: Path, *, features: list[str], texts: list[str]) -> Iterator[Piece]:
        """Yield rows, numbers as float64 and all else as texts."""
        return parquet_pieces(path, features=features, texts=texts)


def parquet_names(path: Path) -> list[str]:
    """Return the names in a file's schema; DataError where it cannot be read."""
    with _open(path) as table:
        return [str(name) for name in table.schema_arrow.names]


def parquet_pieces(path: Path, *, features: list[str], texts: list[str]) -> Iterator[Piece]:
    """Yield rows in order, at most `PIECE_ROWS` at once: numbers as float64 and all else, and `texts`, as texts."""
    with _open(path) as table:
        names = [*dict.fromkeys((*features, *texts))]
        missing = [name for name in names if name not in table.schema_arrow.names]
        if missing:
            raise file_error(path, f"has no column {missing[0]!r}; give it the columns of data.file")
        check_fits(path, "the table", table.metadata.num_rows * 4 * len(names))
        groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
        check_fits(
            path, "its largest group of rows", max((each.total_byte_size for each in groups), default=0), in_memory=True
        )
        for batch in table.iter_batches(batch_size=PIECE_ROWS, columns=names, use_threads=False):
            yield {name: _convert(path, name, batch.column(name), name in texts) for name in names}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file; whatever Arrow raises inside becomes a DataError that names it."""
    try:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError("data.source = 'parquet': pyarrow is missing; run: pip install 'hpcfsl[parquet]'") from None
    try:
        with ParquetFile(path) as table:
            yield table
    except UserError:
        raise
    # Arrow's errors are Python's own where one fits, its ArrowException else.
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, arrow.ArrowException) as error:
        raise file_error(path, f"cannot be read as Parquet ({error}); write it again") from None


def _convert(path: Path, name: str, column: Any, as_text: bool) -> Any:
    """Return a piece of a column: float64 [rows] with NaN for what is missing, or a list of texts with "" for it."""
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    is_text = types.is_string(kind) or types.is_large_string(kind) or (as_text and types.is_temporal(kind))
    if not is_number and not is_text:
        raise file_error(path, f"column {name!r} is of type {kind}; give numbers or texts, or leave it out")
    values = column.to_pylist()
    if is_number and not as_text:
        return np.array([np.nan if value is None else float(value) for value in values])
    return ["" if value is None or value != value else str(value) for value in values]  # NaN is not itself
