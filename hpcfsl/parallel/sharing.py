"""One copy of a large value for all ranks of a node: the node's first rank makes it, all of them map its arrays.

Layer 3. Without it every rank would read the data set from the file system and keep its own copy in memory. The copy
lies in a file in memory that never has a name, so whatever ends the ranks leaves nothing behind; the ranks of a node
open it through the first one's entry in /proc. A rank that cannot (no such file, another process namespace) makes a
copy of its own, which costs memory and changes no bit.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np

from hpcfsl.errors import one_line
from hpcfsl.parallel.communicator import Communicator, agree

T = TypeVar("T")

_ALIGNMENT = 64
_TOKEN_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """What the first rank of a node tells the others.

    Attributes:
        path: Where they find the file.
        token: The file's first bytes: in another process namespace the path may lead to somebody else's file.
        text: The value, pickled without its arrays.
        places: First byte and length of each array in the file.
    """

    path: str
    token: bytes
    text: bytes
    places: tuple[tuple[int, int], ...]


def share_on_node(communicator: Communicator, make: Callable[[], T]) -> tuple[T, str]:
    """Collective. Return what `make` returns, and why its arrays are this rank's own; "" where the node shares them.

    Shared arrays are read-only. `make` runs on one rank of each node, and on those that cannot share; it makes the same
    value everywhere.

    Raises:
        AgreedError: On every rank, if `make` raised UserError on any.
    """
    first = communicator.local_rank == 0
    made = agree(communicator, lambda: make() if first else None)
    with _memory_file() as file:
        offer = communicator.broadcast_on_node(_write(made, file) if first and communicator.local_size > 1 else None)
        shared, problem = _take(offer)
        if made is None or not problem:
            made = shared
        # All ranks have opened the file once this returns, so the first one may close it.
        result = agree(communicator, lambda: make() if made is None else made)
    return result, problem if communicator.local_size > 1 else ""


def _memory_file() -> BinaryIO:
    """Return an empty file in memory that has no name."""
    try:
        if hasattr(os, "memfd_create"):
            return open(os.memfd_create("hpcfsl-data"), "w+b")
        # A Python that was built for an old C library.
        return tempfile.TemporaryFile(dir="/dev/shm")
    except OSError:
        return io.BytesIO()


def _write(value: object, file: BinaryIO) -> _Offer | str:
    """Write the arrays of a value into the file; return what the other ranks need, or why they cannot have it."""
    stream, buffers, token = io.BytesIO(), list[pickle.PickleBuffer](), secrets.token_bytes(_TOKEN_BYTES)
    try:
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        file.write(token)
        places = tuple(_append(file, buffer) for buffer in buffers)
        file.flush()
        path = f"/proc/{os.getpid()}/fd/{file.fileno()}"
    # What pickle raises for somebody's own class that it cannot take: TypeError and AttributeError too.
    except (OSError, pickle.PicklingError, TypeError, AttributeError) as error:
        return one_line(f"the first rank of the node cannot offer it ({error})")
    return _Offer(path=path, token=token, text=stream.getvalue(), places=places)


def _append(file: BinaryIO, buffer: pickle.PickleBuffer) -> tuple[int, int]:
    """Write a buffer to the end of the file; return its place, the first byte and the length."""
    raw = buffer.raw()
    file.write(bytes(-file.tell() % _ALIGNMENT))
    start = file.tell()
    file.write(raw)
    return start, raw.nbytes


def _take(offer: _Offer | str | None) -> tuple[Any, str]:
    """Return the value that is offered, or None and why it cannot be taken."""
    if not isinstance(offer, _Offer):
        return None, offer or "nobody offers it"
    try:
        descriptor = os.open(offer.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        return None, one_line(f"the first rank's copy cannot be opened ({error})")
    if mapped[:_TOKEN_BYTES] != offer.token:
        return None, "the ranks of the node run in different process namespaces"
    view = memoryview(mapped)
    return pickle.loads(offer.text, buffers=[view[start : start + size] for start, size in offer.places]), ""


class _Pickler(pickle.Pickler):
    """Keeps the contents of every array out of the pickle; by itself pickle does so for contiguous ones only."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return np.ascontiguousarray(value).reshape(value.shape).__reduce_ex__(5)
        return NotImplemented
