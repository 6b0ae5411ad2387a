"""A reader for WAV files of any common kind, down to one channel of numbers in -1 .. 1.

Source: "Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft, 1991) and Microsoft's
WAVEFORMATEXTENSIBLE. Read are whole numbers of 8, 16, 24 and 32 bits and floating point numbers of 32 and 64 bits, any
rate, any number of channels (their mean is taken), chunks in any order with any others between them. Files are not
trusted: no more is read than there is, and never more than is asked for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.files import file_error
from hpcfsl.errors import DataError

_WHOLE, _FLOATING, _EXTENSIBLE = 1, 3, 0xFFFE
_KINDS = {(_WHOLE, 8): "u1", (_WHOLE, 16): "<i2", (_WHOLE, 24): "", (_WHOLE, 32): "<i4"} | {
    (_FLOATING, 32): "<f4",
    (_FLOATING, 64): "<f8",
}
_FORMAT_BYTES = 16
_MAX_FORMAT_BYTES = 4096
_MAX_CHANNELS = 64
_MAX_RATE = 1_000_000
_MAX_CHUNKS = 10_000
_UNTIL_THE_END = 0xFFFFFFFF  # what programs write that do not know the length beforehand


@dataclass(frozen=True, kw_only=True)
class _Format:
    """How the numbers of a file are stored."""

    code: int
    channels: int
    rate: int
    frame_bytes: int
    bits: int


def read_wav(path: Path, seconds: float) -> tuple[NDArray[np.float32], int]:
    """Return the first `seconds` of a file, the mean of its channels, float32 [frames] in -1 .. 1; and its rate in Hz.

    Raises:
        DataError: The file is missing, no WAV file, cut off, or of a kind that is not read.
    """
    try:
        with path.open("rb") as file:
            return _read(path, file, seconds)
    except OSError as error:
        raise file_error(path, f"{error.strerror}; get the file again") from None


def _read(path: Path, file: BinaryIO, seconds: float) -> tuple[NDArray[np.float32], int]:
    header = file.read(12)
    if header[:4] != b"RIFF" or header[8:] != b"WAVE":
        raise file_error(path, "does not start as a WAV file does; convert it to WAV")
    found = None
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack("<4sI", head)
        if name == b"fmt ":
            found = _read_format(path, file.read(min(size, _MAX_FORMAT_BYTES)))
            file.seek(size - min(size, _MAX_FORMAT_BYTES) + size % 2, 1)
        elif name == b"data":
            if found is None:
                raise _damaged(path, "its sound comes before its format")
            return _read_sound(path, file, found, size, seconds), found.rate
        else:
            file.seek(size + size % 2, 1)  # chunks begin at even places
    raise _damaged(path, "it has no sound")


def _read_format(path: Path, content: bytes) -> _Format:
    if len(content) < _FORMAT_BYTES:
        raise _damaged(path, f"its format has {len(content)} bytes, not {_FORMAT_BYTES}")
    code, channels, rate, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", content)
    if code == _EXTENSIBLE and len(content) >= 26:
        code = struct.unpack_from("<H", content, 24)[0]  # the first two bytes of the sub-format
    if (code, bits) not in _KINDS:
        text = f"is of format {code:#06x} with {bits} bits"
        raise file_error(path, f"{text}; convert it to WAV with 16 bits (ffmpeg -i IN -c:a pcm_s16le OUT.wav)")
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_RATE or frame_bytes != channels * bits // 8:
        raise _damaged(
            path, f"its format says {channels} channels, {rate} Hz, {frame_bytes} bytes a frame of {bits} bits"
        )
    return _Format(code=code, channels=channels, rate=rate, frame_bytes=frame_bytes, bits=bits)


def _read_sound(path: Path, file: BinaryIO, stored: _Format, size: int, seconds: float) -> NDArray[np.float32]:
    wanted = int(np.ceil(seconds * stored.rate)) * stored.frame_bytes
    here = file.tell()
    present = file.seek(0, 2) - here
    file.seek(here)
    if size == _UNTIL_THE_END:
        size = present
    if present < size:
        raise _damaged(path, f"it ends after {present} of {size} bytes of sound")
    content = file.read(min(size // stored.frame_bytes * stored.frame_bytes, wanted))
    return _to_numbers(path, content, stored)


def _to_numbers(path: Path, content: bytes, stored: _Format) -> NDArray[np.float32]:
    """Return the mean of the channels [frames]."""
    if stored.code == _FLOATING:
        raw = np.frombuffer(content, _KINDS[stored.code, stored.bits])
        if not np.isfinite(raw).all():
            place = int(np.argmin(np.isfinite(raw))) // stored.channels
            raise file_error(path, f"frame {place} is not a finite number; remove the file")
        numbers = np.clip(raw, -1.0, 1.0)
    else:
        numbers = _whole_numbers(content, stored.bits)
    mean: NDArray[np.float32] = numbers.reshape(-1, stored.channels).mean(axis=1, dtype=np.float64).astype(np.float32)
    return mean


def _whole_numbers(content: bytes, bits: int) -> NDArray[Any]:
    """Return whole numbers of 8 bits (from 0, 128 is silence) or 16, 24, 32 bits (signed) as numbers in -1 .. 1."""
    if bits == 8:
        return (np.frombuffer(content, np.uint8) - 128.0) / 128.0
    raw: NDArray[Any]
    if bits == 24:  # made the upper three bytes of four
        raw = np.zeros((len(content) // 3, 4), np.uint8)
        raw[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return raw.reshape(-1).view("<i4") / 2.0**31
    return np.frombuffer(content, _KINDS[_WHOLE, bits]) / 2.0 ** (bits - 1)


def _damaged(path: Path, reason: str) -> DataError:
    return file_error(path, f"is damaged ({reason}); record or get it again")
