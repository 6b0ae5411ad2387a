"""Arrays of NPZ files of others: read in pieces into arrays of the final size, and never as Python objects."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from hpcfsl.data import arena
from hpcfsl.data.sources.files import check_fits, check_stored, file_error
from hpcfsl.errors import DataError

_ARCHIVE = b"PK"
_BY_NUMPY = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # other ways to compress pack more densely
_PIECE_BYTES = 1 << 20
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of a file; DataError where it is none."""
    with _open(path) as archive:
        return [name for name in archive.files if name]


def read_npz(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Return those of some arrays that a file has, by name.

    Raises:
        DataError: The file is missing or damaged, or an array holds Python objects, which could run a program.
    """
    with _open(path) as archive:
        found = [name for name in names if name in archive.files]
        for name in found:
            member = archive.zip.getinfo(f"{name}.npy")
            check_fits(path, f"array {name}", member.file_size)
            if member.compress_type in _BY_NUMPY:
                check_stored(path, f"array {name}", member.file_size, member.compress_size)
        return {name: _read(archive, name) for name in found}


def _read(archive: Any, name: str) -> NDArray[Any]:
    with archive.zip.open(f"{name}.npy") as stream:
        header = _HEADERS.get(npy.read_magic(stream))
        shape, by_columns, kind = header(stream) if header else ((), False, np.dtype(object))
        if kind.hasobject or kind.itemsize == 0:
            return np.asarray(archive[name])  # refuses objects, and knows headers that are rare
        claimed, stored = prod(shape) * kind.itemsize, archive.zip.getinfo(f"{name}.npy").file_size - stream.tell()
        if claimed > stored:
            raise ValueError(f"array {name} claims {claimed} bytes, but only {stored} are stored")
        array = arena.empty(shape[::-1] if by_columns else shape, kind)
        _fill(stream, array)
    return array.T if by_columns else array


def _fill(stream: IO[bytes], array: NDArray[Any]) -> None:
    room = memoryview(array.reshape(-1).view(np.uint8).data)
    place = 0
    while place < len(room):
        piece = stream.read(min(_PIECE_BYTES, len(room) - place))
        if not piece:
            raise ValueError(f"an array ends after {place} of {len(room)} bytes")
        room[place : place + len(piece)] = piece
        place += len(piece)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Open a file; whatever is raised for a damaged one becomes a DataError that names it."""
    # Everything that numpy, zipfile and zlib raise for a damaged file; MemoryError for a shape beyond all bounds,
    # RuntimeError for a member that is marked as encrypted or compressed in another way.
    try:
        # Opened here, because numpy leaves a file that is no archive open.
        with path.open("rb") as file:
            if file.read(2) != _ARCHIVE:  # numpy would take it for a pickle, and say how to load that
                raise file_error(path, "cannot be read as .npz (it is no archive); write it with numpy.savez")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                yield archive
    except DataError:
        raise
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, MemoryError) as error:
        raise file_error(path, f"cannot be read as .npz ({error}); write it with numpy.savez") from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise file_error(path, f"is damaged ({error}); write it again with numpy.savez") from None
