"""Your own data, as arrays in one HDF5 file.

`file["x"] = ...`, `file["y"] = ...`, `file["client"] = ...` with `h5py` write a file that loads as it is, compressed or
not; `hpcfsl.data.sources.arrays` says what the arrays are. Choose it over `npz` where such a file already exists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.sources.arrays import OPTIONAL, REQUIRED, ArrayFile
from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.hdf5_file import find_array, open_hdf5, read_numbers, read_texts


@sources.register
class Hdf5(ArrayFile):
    """Samples, classes and clients from an HDF5 file."""

    source: Literal["hdf5"] = "hdf5"
    """Arrays x, y and perhaps client, x_test and y_test in one HDF5 file."""

    how_to_write: ClassVar[str] = "h5py: file['x'] = ..., file['y'] = ..."

    file: str = Field(min_length=1)
    """Path of the HDF5 file."""

    def read(self, path: Path) -> dict[str, NDArray[Any]]:
        """Return the arrays at the file's top."""
        with open_hdf5(path) as file:
            found = {name: find_array(path, file, name) for name in (*REQUIRED, *OPTIONAL)}
            return {name: _read(path, name, array) for name, array in found.items() if array is not None}


def _read(path: Path, name: str, array: Any) -> NDArray[Any]:
    if name in ("client", "client_test") and array.dtype.kind not in "buif":
        return np.array(read_texts(path, array))
    return read_numbers(path, array)
