"""Large arrays where the other ranks of a node can map them, so that sharing them takes no second copy.

Layer 1. Sources make the arrays that they fill with `empty`. Usually that is `numpy.empty`; inside `shareable()`, where
`hpcfsl.parallel.sharing` makes the data of a node, a large array lies in a file in memory that never has a name, and
`find` says where.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Iterator
from contextvars import ContextVar
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HEAD_BYTES = 64
"""Bytes in front of an array; the first of them are its token."""
TOKEN_BYTES = 16
_SMALLEST = 1 << 20

_shareable: ContextVar[bool] = ContextVar("shareable", default=False)


class Region(mmap.mmap):
    """A file in memory: a token, and after it room for one array. It is closed when no array uses it any more."""

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


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an array of any content, C-contiguous; memory is taken when it is written to."""
    kind = np.dtype(dtype)
    num_bytes = prod(shape) * kind.itemsize
    if not _shareable.get() or num_bytes < _SMALLEST or not hasattr(os, "memfd_create"):
        return np.empty(shape, kind)
    try:
        region = _make(num_bytes)
    except OSError:
        return np.empty(shape, kind)
    return np.frombuffer(region, kind, count=prod(shape), offset=HEAD_BYTES).reshape(shape)


def find(buffer: memoryview) -> tuple[Region, int] | None:
    """Return the region that a contiguous buffer lies in, and at which byte; None where it lies in none."""
    owner: Any = buffer.obj
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, Region):
        return None
    return owner, _address(buffer) - _address(memoryview(owner))


def _make(num_bytes: int) -> Region:
    descriptor = os.memfd_create("hpcfsl-data")
    try:
        os.ftruncate(descriptor, HEAD_BYTES + num_bytes)
        region = Region(descriptor, HEAD_BYTES + num_bytes)
    except (OSError, ValueError):
        os.close(descriptor)
        raise
    region.descriptor = descriptor
    region[:TOKEN_BYTES] = secrets.token_bytes(TOKEN_BYTES)
    return region


def _address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)
