"""Hashes and sketches of uploads: what the trace keeps of every client's update without keeping the update.

The hash is there to tell equal updates from different ones, at the speed of memory: it is no cryptographic hash. The
bits of a vector, filled up with zeros to a whole number of 8-byte little-endian words w_0, w_1, ..., are summed as
`low(x) * high(x) + (w rotated by 32 bits)` modulo 2^64, with `x = w XOR (START + STEP * i)` for word i and `low` and
`high` the halves of x (after NH, Black et al., CRYPTO 1999, with keys from a counter). `STEP` times the number of
coordinates is added, and the result is mixed as in MurmurHash3. A sum may be taken in any order, so kernels and numpy
give the same hash.

The sketch is a count sketch (Charikar et al., ICALP 2002) with coordinate i in bin i modulo 64 and a keyed sign each,
so inner products of sketches estimate inner products of updates without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hpcfsl.native import columns
from hpcfsl.seeding import Purpose, random_words
from hpcfsl.trace.column import SKETCH_SIZE

STEP, START = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
# Words that numpy handles together: their temporaries stay in a core's cache.
_BLOCK = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Fingerprints of a group's uploads.

    Attributes:
        hashes: Hash of each upload's bits, uint64 [clients].
        sketches: float32 [clients, 64].
    """

    hashes: NDArray[np.uint64]
    sketches: NDArray[np.float32]


def fingerprint(updates: NDArray[np.float32], seed: int) -> Fingerprints:
    """Return hashes and sketches of uploads, float32 [clients, params], each row contiguous."""
    if not len(updates):
        return Fingerprints(hashes=np.zeros(0, np.uint64), sketches=np.zeros((0, SKETCH_SIZE), np.float32))
    signs = _signs(seed, updates.shape[1])
    if columns.available():
        sums, sketches = columns.fingerprint(updates, signs)
    else:
        sums, sketches = _hash_sums(updates), _sketches(updates, signs)
    # An upload may hold NaN or 1e30: its sketch then does too, and says so without a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        return Fingerprints(hashes=_mix(sums, updates.shape[1]), sketches=sketches.astype(np.float32))


def hash_bits(values: NDArray[np.float32]) -> int:
    """Return the hash of a vector's bits, float32 [params]."""
    rows = np.ascontiguousarray(values)[None]
    sums = columns.hash_sums(rows) if columns.available() else _hash_sums(rows)
    return int(_mix(sums, len(values))[0])


def _mix(sums: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    mixed = sums + np.array([size], np.uint64) * STEP
    for factor in _MIX:
        mixed = (mixed ^ (mixed >> np.uint64(33))) * factor
    return np.asarray(mixed ^ (mixed >> np.uint64(33)))


def _hash_sums(updates: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the sums before mixing, uint64 [clients]; the kernel's slow and obvious counterpart."""
    padded = np.zeros((len(updates), updates.shape[1] + updates.shape[1] % 2), "<f4")
    padded[:, : updates.shape[1]] = updates
    words = padded.view("<u8").astype(np.uint64, copy=False)
    sums = np.zeros(len(updates), np.uint64)
    for first in range(0, words.shape[1], _BLOCK):
        word = words[:, first : first + _BLOCK]
        mixed = word ^ (np.arange(first, first + word.shape[1], dtype=np.uint64) * STEP + START)
        terms = (mixed & _LOW) * (mixed >> _HALF) + ((word << _HALF) | (word >> _HALF))
        sums += terms.sum(axis=1, dtype=np.uint64)
    return sums


def _sketches(updates: NDArray[np.float32], signs: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return the sketches, float64 [clients, 64]; the kernel's slow and obvious counterpart."""
    count, size = updates.shape
    rows = -(-size // SKETCH_SIZE)
    sketches = np.zeros((count, SKETCH_SIZE))
    padded = np.zeros(rows * SKETCH_SIZE, np.float32)
    for client in range(count):
        padded[:size] = np.where(signs, -updates[client], updates[client])
        with np.errstate(invalid="ignore"):
            sketches[client] = padded.reshape(rows, SKETCH_SIZE).sum(axis=0, dtype=np.float64)
    return sketches


@lru_cache(maxsize=2)
def _signs(seed: int, size: int) -> NDArray[np.uint32]:
    """Return the sign bit of each coordinate, uint32 [params]: set, that is a factor of -1, for an even word."""
    words = random_words(seed, Purpose.SKETCH, round=0, entity=0, count=size)
    return np.where(words & 1, np.uint32(0), np.uint32(1 << 31))
