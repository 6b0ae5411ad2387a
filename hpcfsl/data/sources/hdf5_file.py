"""HDF5 files of others, read with care: only what lies in the file itself, and never more than is stored there.

HDF5 can point to other files (external links, external and virtual storage), and can claim sizes that nothing fills.
Both are refused.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]  # some versions have no types
import numpy as np
from numpy.typing import NDArray

from hpcfsl.data import arena
from hpcfsl.data.sources.files import check_stored, file_error
from hpcfsl.data.sources.hdf5_texts import read_variable_texts
from hpcfsl.errors import UserError

_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, zlib.error)
"""What h5py raises for a damaged file, besides MemoryError."""


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file for reading; whatever HDF5 raises inside becomes a DataError that names the file."""
    with hdf5_errors(path, "cannot be read as HDF5"), h5py.File(path, "r", locking=False) as file:
        yield file  # without locks: they fail on file systems that have none


@contextlib.contextmanager
def hdf5_errors(path: Path, trouble: str) -> Iterator[None]:
    """Turn whatever HDF5 raises inside into a DataError `file PATH: trouble (reason); get the file again`."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        raise file_error(path, f"{trouble} ({error}); get the file again") from None
    except MemoryError:
        raise file_error(path, f"{trouble} (it claims too much memory); get the file again") from None


def find_group(path: Path, parent: Any, name: str, fix: str) -> Any:
    """Return the group `name` of a file or group.

    Raises:
        DataError: There is none in the file itself.
    """
    group = _member(path, parent, name)
    if not isinstance(group, h5py.Group):
        raise file_error(path, f"has no group {_full_name(parent, name)}; {fix}")
    return group


def find_array(path: Path, parent: Any, name: str) -> Any | None:
    """Return the `h5py.Dataset` `name` of a file or group, safe to be read; None where there is none.

    Raises:
        DataError: It points out of the file, or claims more than is stored.
    """
    array, full_name = _member(path, parent, name), _full_name(parent, name)
    if not isinstance(array, h5py.Dataset):
        return None
    if array.is_virtual or array.external:
        raise file_error(path, f"array {full_name} points to another file; copy the data into this one")
    if array.shape is None:
        raise file_error(path, f"array {full_name} is empty; remove it")
    check_stored(path, f"array {full_name}", array.size * array.dtype.itemsize, array.id.get_storage_size())
    if array.chunks is not None:
        chunk_bytes = int(np.prod(array.chunks, dtype=np.float64)) * array.dtype.itemsize
        check_stored(path, f"a chunk of {full_name}", chunk_bytes, array.id.get_storage_size(), in_memory=True)
    return array


def read_numbers(path: Path, array: Any) -> NDArray[Any]:
    """Return a whole array of numbers; DataError for any other type."""
    if array.dtype.kind not in "buif":
        raise file_error(path, f"array {array.name} has type {array.dtype}; give numbers")
    found = arena.empty(array.shape, array.dtype)
    if found.size:
        array.read_direct(found)
    return found


def read_texts(path: Path, array: Any) -> list[str]:
    """Return a list of strings [n]; numbers become their digits; DataError for any other type or shape."""
    if array.ndim != 1:
        raise file_error(path, f"array {array.name} has shape {array.shape}; give one value a row")
    if array.dtype.kind == "S":
        return [text.decode("utf-8", "replace") for text in array[()].tolist()]
    if h5py.check_string_dtype(array.dtype) is not None:
        return read_variable_texts(path, array)
    if array.dtype.kind not in "ui":
        raise file_error(path, f"array {array.name} has type {array.dtype}; give strings or whole numbers")
    return [str(value) for value in array[()]]


def _member(path: Path, parent: Any, name: str) -> Any | None:
    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise file_error(path, f"{_full_name(parent, name)} is a link to another place; copy the data to this one")
    return parent.get(name)


def _full_name(parent: Any, name: str) -> str:
    return f"{parent.name.rstrip('/')}/{name}"
