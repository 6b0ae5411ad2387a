"""Strings of variable length in HDF5 files of others, read without the HDF5 library.

The library (2.0 and before) believes what a file says about such strings: a damaged file can make it loop for ever,
take gigabytes, or write beyond a buffer. The layout is simple, so it is read here, with every step checked. Source:
HDF5 File Format Specification 3.0, sections III.E (global heap) and IV.B (data storage of variable-length types).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.files import check_stored, file_error
from hpcfsl.errors import DataError

_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("entry", "<u4")])
"""How an element is stored: its bytes, the address of a heap in the file, and the number of an entry there."""

_MAGIC = b"GCOL\x01\0\0\0"
_HEADER = 16
_FREE = 0
_DEFLATE = 1


def read_variable_texts(path: Path, array: Any) -> list[str]:
    """Return the strings [n] of an `h5py.Dataset` of one axis and variable length; what is no UTF-8 becomes U+FFFD.

    Raises:
        DataError: The file is damaged, or stores them in a way that is not known here.
    """
    if array.file.userblock_size or array.file.id.get_create_plist().get_sizes() != (8, 8):
        raise _unknown(path, array, "a user block or short addresses")
    texts = []
    with path.open("rb") as file:
        heaps = _Heaps(path, file)
        for length, heap, entry in _references(path, array, file).tolist():
            content = heaps.find(heap).get(entry, b"") if length else b""
            if length > len(content):
                raise _damaged(path, array)
            texts.append(content[:length].rstrip(b"\0").decode("utf-8", "replace"))
    return texts


def _references(path: Path, array: Any, file: BinaryIO) -> NDArray[Any]:
    """Return the elements as stored [n]."""
    num_bytes = array.size * _REFERENCE.itemsize
    check_stored(path, f"array {array.name}", num_bytes, array.id.get_storage_size(), in_memory=True)
    if array.chunks is not None:
        return _chunked(path, array)
    if array.id.get_offset() is None:
        raise _unknown(path, array, "compact storage")
    file.seek(array.id.get_offset())
    content = file.read(num_bytes)
    if len(content) < num_bytes:
        raise _damaged(path, array)
    return np.frombuffer(content, _REFERENCE)


def _chunked(path: Path, array: Any) -> NDArray[Any]:
    found = np.zeros(array.size, _REFERENCE)
    check_stored(
        path,
        f"a chunk of {array.name}",
        array.chunks[0] * _REFERENCE.itemsize,
        array.id.get_storage_size(),
        in_memory=True,
    )
    for number in range(array.id.get_num_chunks()):
        start = array.id.get_chunk_info(number).chunk_offset[0]
        chunk = np.frombuffer(_unpack(path, array, *array.id.read_direct_chunk((start,))), _REFERENCE)
        found[start : start + len(chunk)] = chunk[: max(array.size - start, 0)]
    return found


def _unpack(path: Path, array: Any, skipped: int, content: bytes) -> bytes:
    """Undo what was done to a chunk when it was stored; bit i of `skipped` says that filter i was not applied to it."""
    plist = array.id.get_create_plist()
    num_bytes = array.chunks[0] * _REFERENCE.itemsize
    applied = [number for number in range(plist.get_nfilters()) if not skipped >> number & 1]
    for number in reversed(applied):
        code = plist.get_filter(number)[0]
        if code != _DEFLATE:
            raise _unknown(path, array, f"HDF5 filter {code}")
        content = zlib.decompressobj().decompress(content, num_bytes)
    if len(content) != num_bytes:
        raise _damaged(path, array)
    return content


class _Heaps:
    """The heaps of strings in a file, each read once; together they are no larger than the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._left = path.stat().st_size
        self._found: dict[int, dict[int, bytes]] = {}

    def find(self, address: int) -> dict[int, bytes]:
        """Return the content of each entry of the heap at `address`, by its number."""
        if address not in self._found:
            self._found[address] = dict(_entries(self._read(address)))
        return self._found[address]

    def _read(self, address: int) -> bytes:
        self._file.seek(min(address, 2**62))
        header = self._file.read(_HEADER)
        if len(header) < _HEADER or not header.startswith(_MAGIC):
            raise file_error(self._path, f"has no heap of strings at byte {address}; get the file again")
        size = struct.unpack_from("<Q", header, len(_MAGIC))[0]
        self._left -= size
        if size < _HEADER or self._left < 0:
            raise file_error(self._path, f"its heap of strings at byte {address} is damaged; get the file again")
        return self._file.read(size - _HEADER)


def _entries(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + _HEADER <= len(content):
        number, length = struct.unpack_from("<H6xQ", content, place)
        if number == _FREE:  # the rest is free
            return
        yield number, content[place + _HEADER : place + _HEADER + length]
        place += (_HEADER + length + 7) // 8 * 8


def _damaged(path: Path, array: Any) -> DataError:
    return file_error(
        path, f"array {array.name} is damaged: a string is longer than what is stored; get the file again"
    )


def _unknown(path: Path, array: Any, what: str) -> DataError:
    return file_error(path, f"array {array.name} is stored with {what}; write it anew with h5py, plain or with gzip")
