"""One copy of a large value for all ranks of a node: the node's first rank makes it, all of them map its arrays.

Layer 3. Without it every rank would read the data set from the file system and keep its own copy in memory. The copy
lies in files in memory that never have a name, so whatever ends the ranks leaves nothing behind; the ranks of a node
open them through the first one's entry in /proc. Large arrays that sources read are made in such a file (`hpcfsl.data.
arena`), all others are copied into one. A rank that cannot (no such file, another process namespace) makes a
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

from hpcfsl.data import arena
from hpcfsl.errors import one_line
from hpcfsl.parallel.communicator import Communicator, agree

T = TypeVar("T")

_ALIGNMENT = 64


@dataclass(frozen=True, kw_only=True)
class _Offer:
    """What the first rank of a node tells the others.

    Attributes:
        files: Where they find each file, and its first bytes: in another process namespace the path may lead to
            somebody else's file.
        text: The value, pickled without its arrays.
        places: The file of each array, its first byte there and its length.
    """

    files: tuple[tuple[str, bytes], ...]
    text: bytes
    places: tuple[tuple[int, int, int], ...]


def share_on_node(communicator: Communicator, make: Callable[[], T]) -> tuple[T, str]:
    """Collective. Return what `make` returns, and why its arrays are this rank's own; "" where the node shares them.

    Shared arrays are read-only. `make` runs on one rank of each node, and on those that cannot share; it makes the same
    value everywhere.

    Raises:
        AgreedError: On every rank, if `make` raised UserError on any.
    """
    first = communicator.local_rank == 0
    made = agree(communicator, lambda: _make(make, shared=communicator.local_size > 1) if first else None)
    with _memory_file() as file:
        offer = communicator.broadcast_on_node(_write(made, file) if first and communicator.local_size > 1 else None)
        shared, problem = _take(offer)
        own = made if problem else shared
        # All ranks have opened the files once this returns, so the first one may close them; `made` keeps some open.
        result = agree(communicator, lambda: make() if own is None else own)
        del made
    return result, problem if communicator.local_size > 1 else ""


def _make(make: Callable[[], T], *, shared: bool) -> T:
    if not shared:
        return make()
    with arena.shareable():
        return make()


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
    stream, buffers, token = io.BytesIO(), list[pickle.PickleBuffer](), secrets.token_bytes(arena.TOKEN_BYTES)
    try:
        files = {file.fileno(): (_path_of(file.fileno()), token)}
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        file.write(token)
        found = [_place(file, buffer, files) for buffer in buffers]
        file.flush()
    # What pickle raises for somebody's own class that it cannot take: TypeError and AttributeError too.
    except (OSError, pickle.PicklingError, TypeError, AttributeError) as error:
        return one_line(f"the first rank of the node cannot offer it ({error})")
    numbers = {descriptor: number for number, descriptor in enumerate(files)}
    places = tuple((numbers[descriptor], start, size) for descriptor, start, size in found)
    return _Offer(files=tuple(files.values()), text=stream.getvalue(), places=places)


def _path_of(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _place(file: BinaryIO, buffer: pickle.PickleBuffer, files: dict[int, tuple[str, bytes]]) -> tuple[int, int, int]:
    """Return where a buffer lies: a file's descriptor, the first byte, the length; write it to `file` if in none."""
    raw = buffer.raw()
    found = arena.find(raw)
    if found is not None:
        region, start = found
        files[region.descriptor] = _path_of(region.descriptor), region.token
        return region.descriptor, start, raw.nbytes
    file.write(bytes(-file.tell() % _ALIGNMENT))
    start = file.tell()
    file.write(raw)
    return file.fileno(), start, raw.nbytes


def _take(offer: _Offer | str | None) -> tuple[Any, str]:
    """Return the value that is offered, or None and why it cannot be taken."""
    if not isinstance(offer, _Offer):
        return None, offer or "nobody offers it"
    views = []
    for path, token in offer.files:
        try:
            mapped = _map(path)
        except (OSError, ValueError) as error:
            return None, one_line(f"the first rank's copy cannot be opened ({error})")
        if mapped[: arena.TOKEN_BYTES] != token:
            return None, "the ranks of the node run in different process namespaces"
        views.append(memoryview(mapped))
    buffers = [views[number][start : start + size] for number, start, size in offer.places]
    return pickle.loads(offer.text, buffers=buffers), ""


def _map(path: str) -> mmap.mmap:
    """Return a file's content, to be read only."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


class _Pickler(pickle.Pickler):
    """Keeps the contents of every array out of the pickle; by itself pickle does so for contiguous ones only."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return np.ascontiguousarray(value).reshape(value.shape).__reduce_ex__(5)
        return NotImplemented
