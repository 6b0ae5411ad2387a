"""Hashes and sketches of uploads: what the trace keeps of every client's update without keeping the update.

The sketch is a count sketch (Charikar et al., ICALP 2002) with coordinate i in bin i modulo 64 and a keyed sign each,
so inner products of sketches estimate inner products of updates without bias.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.seeding import Purpose, random_words
from hpcfsl.trace.column import SKETCH_SIZE


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Fingerprints of a group's uploads.

    Attributes:
        hashes: First 64 bits of each upload's sha256, uint64 [clients].
        sketches: float32 [clients, 64].
    """

    hashes: NDArray[np.uint64]
    sketches: NDArray[np.float32]


def fingerprint(updates: NDArray[np.float32], seed: int) -> Fingerprints:
    """Return hashes and sketches of uploads, float32 [clients, params]."""
    return Fingerprints(
        hashes=np.array([hash_bits(update) for update in updates], np.uint64),
        sketches=np.stack([_sketch(update, seed) for update in updates]),
    )


def hash_bits(values: NDArray[Any]) -> int:
    """Return the first 64 bits of the sha256 of an array's bytes."""
    return int.from_bytes(hashlib.sha256(np.ascontiguousarray(values).data).digest()[:8], "little")


def _sketch(update: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    rows = -(-len(update) // SKETCH_SIZE)
    padded = np.zeros(rows * SKETCH_SIZE, np.float32)
    # An upload may hold NaN or 1e30: its sketch then does too, and says so without a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        padded[: len(update)] = update * _signs(seed, len(update))
        return np.asarray(padded.reshape(rows, SKETCH_SIZE).sum(axis=0, dtype=np.float64).astype(np.float32))


@lru_cache(maxsize=2)
def _signs(seed: int, size: int) -> NDArray[np.float32]:
    words = random_words(seed, Purpose.SKETCH, round=0, entity=0, count=size)
    return np.where(words & 1, np.float32(1), np.float32(-1)).astype(np.float32)
