"""Text as symbols, one a character: printable ASCII and the end of a line.

Sources that predict the next character cut a long text into windows; those that classify bring each text to one length.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

S = TypeVar("S", bound=np.unsignedinteger[Any])

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that are kept, by symbol: newline and printable ASCII."""

BLANK = ALPHABET.index(" ")

_UNKNOWN = 255
_SYMBOLS = np.full(256, _UNKNOWN, np.uint8)
_SYMBOLS[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))


def encode(text: str) -> NDArray[np.uint8]:
    """Return the symbols of the characters that are in the alphabet, uint8 [characters]; others are dropped."""
    symbols = _SYMBOLS[np.frombuffer(text.encode("ascii", "ignore"), np.uint8)]
    kept: NDArray[np.uint8] = symbols[symbols != _UNKNOWN]
    return kept


def cut_windows(symbols: NDArray[S], positions: int) -> NDArray[S]:
    """Return windows [n, positions + 1] of symbols [characters]; the last symbol of one is the first of the next."""
    if len(symbols) <= positions:
        return np.empty((0, positions + 1), symbols.dtype)
    return sliding_window_view(symbols, positions + 1)[::positions]


def bring_to_length(symbols: NDArray[np.uint8], positions: int) -> NDArray[np.uint8]:
    """Return the first `positions` symbols, with blanks in front where there are fewer, uint8 [positions]."""
    kept = symbols[:positions]
    return np.concatenate([np.full(positions - len(kept), BLANK, np.uint8), kept])
