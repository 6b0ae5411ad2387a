"""A reader for IDX, the format of the MNIST family: a big-endian header, then one array; often gzip-compressed.

Source: LeCun et al., "The MNIST database", file format section. A header is two zero bytes, a type code, the number of
axes, and one 32-bit length for each. Headers are not trusted: memory is taken as bytes really arrive.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data import arena
from hpcfsl.data.sources.files import check_stored
from hpcfsl.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_AXES = 8
_PIECE_BYTES = 1 << 24


def read_idx(path: Path) -> NDArray[Any]:
    """Return the array in an IDX file, compressed or not, in this machine's byte order.

    Raises:
        DataError: The file is missing, cannot be read, is no IDX file, or is not as long as its header says.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            return _read_array(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"file {path}: {reason}; get the file again") from None


def _read_array(stream: BufferedIOBase, path: Path) -> NDArray[Any]:
    zeros, code, num_axes = struct.unpack(">HBB", _read_exactly(stream, 4, path).data)
    if zeros or code not in _TYPES or not 1 <= num_axes <= _MAX_AXES:
        raise DataError(
            f"file {path}: starts with {zeros:04x}{code:02x}{num_axes:02x}, so it is no IDX file; replace it"
        )
    shape = struct.unpack(f">{num_axes}I", _read_exactly(stream, 4 * num_axes, path).data)
    stored = np.dtype(_TYPES[code])
    num_bytes = math.prod(shape) * stored.itemsize
    if num_bytes == 0:
        raise DataError(f"file {path}: its header has the empty shape {shape}; get the file again")
    check_stored(path, f"its shape {shape}", num_bytes, path.stat().st_size)
    content = _read_exactly(stream, num_bytes, path)
    if stream.read(1):
        raise DataError(f"file {path}: longer than the shape {shape} in its header; get the file again")
    array = content.view(stored)
    # Swapped in place: a copy would take the memory a second time.
    return (
        (array.byteswap(inplace=True) if not stored.isnative else array).view(stored.newbyteorder("=")).reshape(shape)
    )


def _read_exactly(stream: BufferedIOBase, num_bytes: int, path: Path) -> NDArray[np.uint8]:
    content = arena.empty(
        (num_bytes,), np.uint8
    )  # the system gives a page of it when the first byte of the page arrives
    place = 0
    while place < num_bytes and (count := stream.readinto(content.data[place : place + _PIECE_BYTES])):
        place += count
    if place < num_bytes:
        raise DataError(
            f"file {path}: ends after {place} of {num_bytes} bytes that its header promises; get the file again"
        )
    return content
