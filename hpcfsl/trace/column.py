"""One column of a recorded table: its name, its type and what it means.

Layer 3. `hpcfsl.trace.schema` lists the columns; this file only says what a column is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SKETCH_SIZE = 64
"""Numbers in the sketch of an update."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: The dataset's name in the table's group.
        dtype: numpy type without byte order: `i1`, `i4`, `i8`, `u8`, `f4`, `f8`, or `S<width>` for text.
        units: `1` for pure numbers, `byte`, `s`.
        long_name: A short title, for axes and headings.
        description: What the value is, exactly.
        deterministic: True where the bits are the same on any number of ranks and across restarts.
        axis: The name of the second axis, `component` or `projection`; None for one value a row.
        flags: Names of the values 0, 1, 2, ...; empty where the values are not codes.
        missing: The value that stands for "not known" or "not applicable"; None where there is always one.
        bits: True for a hash over float bits, which any rounding changes.
        optional: True where most runs know no value at all. Such a run's digest leaves the column out, so that it is
            what it was before there was the column. Then `missing` is NaN.
    """

    name: str
    dtype: str
    units: str
    long_name: str
    description: str
    deterministic: bool
    axis: str | None = None
    flags: tuple[str, ...] = ()
    missing: float | int | None = None
    bits: bool = False
    optional: bool = False

    @property
    def is_text(self) -> bool:
        """True for fixed-length text."""
        return self.dtype.startswith("S")

    @property
    def is_float(self) -> bool:
        """True for floating point."""
        return self.dtype.startswith("f")

    @cached_property
    def numpy(self) -> np.dtype[np.generic]:
        """The type on disk: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    def shape(self, num_rows: int, num_components: int) -> tuple[int, ...]:
        """Return the shape of this column over `num_rows` rows: [rows] or [rows, axis]."""
        if self.axis is None:
            return (num_rows,)
        return (num_rows, num_components if self.axis == "component" else SKETCH_SIZE)
