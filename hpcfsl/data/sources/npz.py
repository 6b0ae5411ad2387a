"""Your own data, as one file of numpy arrays.

`numpy.savez("mine.npz", x=..., y=..., client=...)` writes a file that loads as it is; `hpcfsl.data.sources.arrays` says
what the arrays are. Arrays of Python objects are refused: reading them would execute code from the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.sources.arrays import OPTIONAL, REQUIRED, ArrayFile
from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.npz_file import read_npz


@sources.register
class Npz(ArrayFile):
    """Samples, classes and clients from an .npz file."""

    source: Literal["npz"] = "npz"
    """Arrays x, y and perhaps client, x_test and y_test in one .npz file."""

    how_to_write: ClassVar[str] = "numpy.savez(file, x=..., y=...)"

    file: str = Field(min_length=1)
    """Path of the .npz file."""

    def read(self, path: Path) -> dict[str, NDArray[Any]]:
        """Return the arrays of the archive."""
        return read_npz(path, [*REQUIRED, *OPTIONAL])
