"""Where large arrays of data lie: in this process, in memory that a node's ranks share, or in files on a disk.

Layer 1. Sources make the arrays that they fill with `empty`. Usually that is `numpy.empty`. Inside `shareable()`, where
`hpcfsl.parallel.sharing` makes the data of a node, a large array lies in a file in memory that never has a name; inside
`in_files()`, where `hpcfsl.data.cache` keeps the data on a disk, in a file there, so that data may exceed the memory:
the system writes its pages out and reads them again as they are needed. `find` says which file an array lies in.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcfsl.errors import DataError, one_line, shorten
from hpcfsl.provenance import memory_bytes

HEAD_BYTES = 64
"""Bytes in front of an array; the first of them are its token."""
TOKEN_BYTES = 16
_SMALLEST = 1 << 20

_shareable: ContextVar[bool] = ContextVar("shareable", default=False)
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


class Region(mmap.mmap):
    """A mapped file: a token, and after it arrays. It is closed when no array uses it any more."""

    descriptor = -1

    def __del__(self) -> None:
        """Close the file; ranks that have opened it keep it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)

    @property
    def token(self) -> bytes:
        """The first bytes, which tell the file from others of the same number."""
        return self[:TOKEN_BYTES]


@contextlib.contextmanager
def shareable() -> Iterator[None]:
    """Make `empty` put large arrays where other processes can map them."""
    before = _shareable.set(True)
    try:
        yield
    finally:
        _shareable.reset(before)


@contextlib.contextmanager
def in_files(folder: Path) -> Iterator[None]:
    """Make `empty` put large arrays into files of `folder` that have no name and go when nobody uses them."""
    before = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(before)


def room(*, in_memory: bool = False) -> tuple[int, str]:
    """Return the bytes that large arrays may take here, or what lies in memory anyway, and who has them."""
    folder = None if in_memory else _folder.get()
    if folder is None:
        return memory_bytes(), "this machine has"
    return shutil.disk_usage(folder).free, "the disk of run.data_cache has"


def folder_error(folder: Path, trouble: str) -> DataError:
    """Return the error about the folder in which arrays lie."""
    return DataError(one_line(f"run.data_cache = {shorten(str(folder))}: {trouble}; choose another folder"))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, C-contiguous; memory is taken when it is written to.

    Raises:
        DataError: Arrays lie in files, and the disk has no room for this one.
    """
    kind, folder = np.dtype(dtype), _folder.get()
    num_bytes = prod(shape) * kind.itemsize
    if num_bytes < _SMALLEST:
        return np.empty(shape, kind)
    if folder is not None:
        try:
            region = _make(HEAD_BYTES + num_bytes, lambda: _file_in(folder), fill=True)
        except OSError as error:
            raise folder_error(folder, f"no room for {num_bytes / 1e9:.4g} GB ({error.strerror})") from None
        return _array(region, shape, kind)
    if not _shareable.get() or not hasattr(os, "memfd_create"):
        return np.empty(shape, kind)
    try:
        region = _make(HEAD_BYTES + num_bytes, lambda: os.memfd_create("hpcfsl-data"), fill=False)
    except OSError:
        return np.empty(shape, kind)
    return _array(region, shape, kind)


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays of one type end to end, where large arrays lie.

    Raises:
        DataError: As for `empty`.
    """
    count = sum(map(len, parts))
    return np.concatenate(parts, out=empty((count, *parts[0].shape[1:]), parts[0].dtype))


def is_in_file(array: NDArray[Any]) -> bool:
    """Return whether an array lies in a mapped file."""
    return _region(array) is not None


def open_region(path: Path) -> Region:
    """Return a file that begins with a token, mapped to be read.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is empty.
    """
    return _map(os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0, mmap.ACCESS_READ)


def find(buffer: memoryview) -> tuple[Region, int] | None:
    """Return the region that a contiguous buffer lies in, and at which byte; None where it lies in none."""
    owner = _region(buffer.obj)
    return None if owner is None else (owner, _address(buffer) - _address(memoryview(owner)))


def _region(owner: Any) -> Region | None:
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, Region) else None


def _array(region: Region, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(region, kind, count=prod(shape), offset=HEAD_BYTES).reshape(shape)


def _make(num_bytes: int, create: Callable[[], int], *, fill: bool) -> Region:
    """Return a new file of some size, mapped to be written; with `fill` the disk sets its room aside at once.

    Without that, a write to memory for which the disk has no room would end the process.
    """
    descriptor = create()
    try:
        if fill:
            os.posix_fallocate(descriptor, 0, num_bytes)
        else:
            os.ftruncate(descriptor, num_bytes)
    except OSError:
        os.close(descriptor)
        raise
    region = _map(descriptor, num_bytes, mmap.ACCESS_WRITE)
    region[:TOKEN_BYTES] = secrets.token_bytes(TOKEN_BYTES)
    return region


def _map(descriptor: int, num_bytes: int, access: int) -> Region:
    try:
        region = Region(descriptor, num_bytes, access=access)
    except (OSError, ValueError):
        os.close(descriptor)
        raise
    region.descriptor = descriptor
    return region


def _file_in(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())


def _address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)
