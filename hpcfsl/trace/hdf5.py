"""The few HDF5 operations that the trace needs, so that no other file knows HDF5's corners.

Layer 3. Files are built in memory and written by `hpcfsl.trace.folder.write_atomic`: no HDF5 file is ever open on
disk for writing, a full disk is a plain `OSError`, and the sha256 of a file is known before it exists. The format is
pinned to superblock 3 as HDF5 1.10 reads it: the newest of HDF5 2 cannot be read by the versions on most clusters.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]  # some versions have no types
import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.trace.schema import FORMAT, FORMAT_VERSION

_CHUNK_BYTES = 1 << 20
_VECTOR_CHUNK_BYTES = 1 << 30  # HDF5 before 2.0 admits no chunk of 4 GiB or more
_LIBVER = ("v110", "v110")


class DamagedFileError(RunFolderError):
    """A file whose content is not what was committed."""

    def __init__(self, path: Path, reason: str) -> None:
        fix = "restore it from a copy, or run the same command again to go back to the checkpoint before it"
        super().__init__(one_line(f"{path}: damaged ({reason}); {fix}"))


def build(fill: Callable[[Any], None], user_block: int = 0) -> memoryview:
    """Return the bytes of an HDF5 file that `fill` has filled, with the format's root attributes.

    Args:
        fill: Called with the open `h5py.File`.
        user_block: Bytes to leave free at the start of the file.
    """
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=_LIBVER, userblock_size=user_block) as file:
        put_attributes(file, {"format": FORMAT, "format_version": FORMAT_VERSION})
        fill(file)
    return stream.getbuffer()


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Any]:
    """Open a committed file for reading and check its format.

    Raises:
        DamagedFileError: It is not HDF5, a checksum fails, or something that must be in it is missing.
        RunFolderError: It is of another format or an unknown major version.
    """
    try:
        # Committed files never change, so file locks would only fail on file systems that have none.
        with h5py.File(path, "r", locking=False) as file:
            _check_format(file, path)
            yield file
    except RunFolderError:
        raise
    # Whatever h5py raises, here or while the caller reads, means that the file is not what was committed.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DamagedFileError(path, str(error)) from error


def put_attributes(thing: Any, values: Mapping[str, Any]) -> None:
    """Set attributes of a new thing; text becomes UTF-8 of fixed length."""
    # Through h5py's lower level: its upper one takes a tenth of a millisecond for each, and every dataset has four.
    for name, value in values.items():
        data = np.asarray(np.bytes_(value.encode())) if isinstance(value, str) else np.asarray(value)
        kind = _text_type(max(1, data.itemsize)) if isinstance(value, str) else h5py.h5t.py_create(data.dtype)
        space = h5py.h5s.create(h5py.h5s.SCALAR) if data.ndim == 0 else h5py.h5s.create_simple(data.shape)
        h5py.h5a.create(thing.id, name.encode(), kind, space).write(data, mtype=kind)


@lru_cache(maxsize=256)
def _text_type(size: int) -> Any:
    return h5py.h5t.py_create(h5py.string_dtype("utf-8", size), logical=True)


def put_text(file: Any, name: str, text: str, description: str) -> None:
    """Write a scalar text dataset, UTF-8 of fixed length."""
    raw = text.encode()
    dataset = file.create_dataset(name, (), dtype=h5py.string_dtype("utf-8", max(1, len(raw))))
    dataset[()] = np.bytes_(raw)
    put_attributes(dataset, described("1", name.replace("_", " "), description, False))


def put_array(group: Any, name: str, data: NDArray[Any], *, missing: float | int | None = None) -> Any:
    """Write an array compressed, shuffled and with a checksum; return the dataset. Empty arrays are stored plainly."""
    filters: dict[str, Any] = {}
    if data.size > 0:
        rows = min(data.shape[0], max(1, _CHUNK_BYTES // (data.nbytes // data.shape[0])))
        filters = {"chunks": (rows, *data.shape[1:]), "compression": "gzip", "compression_opts": 1}
        filters |= {"shuffle": True, "fletcher32": True}
    return group.create_dataset(name, data=data, fillvalue=missing, **filters)


def put_vector(group: Any, name: str, data: NDArray[Any]) -> Any:
    """Write an array of numbers uncompressed, in one chunk (up to 1 GiB) with a checksum; return the dataset."""
    filters: dict[str, Any] = {}
    if data.ndim > 0 and data.size > 0:
        rows = min(data.shape[0], max(1, _VECTOR_CHUNK_BYTES // max(1, data.nbytes // data.shape[0])))
        filters = {"chunks": (rows, *data.shape[1:]), "fletcher32": True}
    return group.create_dataset(name, data=data, **filters)


def put_rows(group: Any, name: str, rows: Sequence[NDArray[Any]]) -> Any:
    """Write vectors of one type and length as a dataset [row, parameter], a chunk a row (of up to 1 GiB); return it."""
    shape, dtype = (len(rows), rows[0].size), rows[0].dtype
    if rows[0].size == 0:
        return group.create_dataset(name, shape=shape, dtype=dtype)
    chunk = (1, min(shape[1], _VECTOR_CHUNK_BYTES // dtype.itemsize))
    dataset = group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunk, fletcher32=True)
    # Row by row through h5py's lower level: its upper one is slower, and one array of all rows would be a second copy.
    memory, file = h5py.h5s.create_simple((1, shape[1])), dataset.id.get_space()
    for number, row in enumerate(rows):
        file.select_hyperslab((number, 0), (1, shape[1]))
        dataset.id.write(memory, file, row)
    return dataset


def put_dimension(group: Any, name: str, size: int) -> Any:
    """Make a dimension scale without values (netCDF's convention for a plain dimension); return it."""
    if name not in group:
        chunks = (min(size, _VECTOR_CHUNK_BYTES // 4),) if size else None  # never written, so never allocated
        scale = group.create_dataset(name, shape=(size,), dtype="f4", chunks=chunks)
        scale.make_scale(f"This is a netCDF dimension but not a netCDF variable. {size:10d}")
        put_attributes(scale, described("1", name, "A dimension without coordinates.", False))
    return group[name]


def described(units: str, long_name: str, description: str, deterministic: bool) -> dict[str, Any]:
    """Return the four attributes that every dataset has."""
    flag = np.int8(deterministic)
    return {"units": units, "long_name": long_name, "description": description, "deterministic": flag}


def get_text(file: Any, name: str) -> str:
    """Return the text of a scalar dataset or a root attribute."""
    value = file[name][()] if name in file else file.attrs[name]
    return bytes(value).decode()


def _check_format(file: Any, path: Path) -> None:
    if "format" not in file.attrs or get_text(file, "format") != FORMAT:
        raise RunFolderError(f"{path}: not a {FORMAT} file; name a run folder of this program")
    version = get_text(file, "format_version")
    if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
        fix = "read it with the version of hpcfsl that wrote it"
        raise RunFolderError(f"{path}: format version {version}, this program knows {FORMAT_VERSION}; {fix}")
