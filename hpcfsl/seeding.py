"""Keyed, counter-based randomness: the same numbers whoever asks, wherever and in whatever order.

Layer 0. Every random number of a run is a function of (seed, purpose, round, entity, position), never of a rank or a
call order, so a run has the same bits on any number of ranks. The generator is Philox4x32-10 (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011). It is evaluated for a whole array of counters at once and uses only
`* ^ & >>` on int64, so one function serves numpy arrays and torch tensors, on CPU and GPU, with identical integers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


class Purpose(IntEnum):
    """What a random number is for. Values are part of a run's bits: never renumber, only append."""

    PARTITION = 1
    HOLDOUT = 2
    PARTICIPATION = 3
    GROUPING = 4
    MODEL_INIT = 5
    BATCH_ORDER = 6
    DROPOUT = 7
    PERTURBATION = 8
    THREAT = 9
    SKETCH = 10
    SYNTHETIC = 11
    DRAWING = 12
    EVALUATION = 13
    FAULTS = 14
    CLOCK = 15
    POLLUTION = 16
    SMASHED = 17
    HELD_OUT_CLIENTS = 18
    TURNS = 19


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Return Philox4x32-10 of int64 arrays that hold 32-bit words; shapes broadcast against each other.

    Args:
        counter: Four words, numpy int64 arrays or torch int64 tensors, values in [0, 2**32).
        key: Two words, values in [0, 2**32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # A 32 x 32 bit product fills 64 bits; int64 wraps around, and masking the shift undoes the sign.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def key_of(seed: int, purpose: Purpose) -> tuple[int, int]:
    """Return the Philox key of a stream. `seed` is in [0, 2**32)."""
    return seed & _MASK, int(purpose)


def random_words(
    seed: int, purpose: Purpose, *, round: int, entity: int | NDArray[np.int64], count: int, lane: int = 0
) -> NDArray[np.int64]:
    """Return 32-bit words as int64, shape [..., count], for one entity or an array of entities.

    Args:
        seed: The run's seed.
        purpose: What the words are for.
        round: The round, in [0, 2**32).
        entity: Client or group ids, any shape.
        count: Words for each entity.
        lane: A further counter word, for instance the epoch.
    """
    entities = np.asarray(entity, dtype=np.int64)[..., None]
    blocks = np.arange(-(-count // 4), dtype=np.int64)
    blocks, entities = np.broadcast_arrays(blocks, entities)
    shape = blocks.shape
    words = philox(
        (blocks.copy(), np.full(shape, lane, np.int64), entities.copy(), np.full(shape, round, np.int64)),
        key_of(seed, purpose),
    )
    return np.stack(words, axis=-1).reshape(*shape[:-1], 4 * shape[-1])[..., :count]


def random_uniform(
    seed: int, purpose: Purpose, *, round: int, entity: int | NDArray[np.int64], count: int, lane: int = 0
) -> NDArray[np.float64]:
    """Return float64 numbers in (0, 1], shape [..., count]; arguments as in `random_words`."""
    words = random_words(seed, purpose, round=round, entity=entity, count=2 * count, lane=lane)
    high, low = words[..., 0::2] >> 5, words[..., 1::2] >> 6
    result: NDArray[np.float64] = (high * 67108864.0 + low + 0.5) / 9007199254740992.0
    return result


def random_normal(
    seed: int, purpose: Purpose, *, round: int, entity: int | NDArray[np.int64], count: int, lane: int = 0
) -> NDArray[np.float64]:
    """Return standard normal numbers (Box-Muller), shape [..., count]; arguments as in `random_words`."""
    uniform = random_uniform(seed, purpose, round=round, entity=entity, count=count + count % 2, lane=lane)
    radius, angle = np.sqrt(-2.0 * np.log(uniform[..., 0::2])), 2.0 * np.pi * uniform[..., 1::2]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(uniform.shape)[..., :count]


def random_permutation(
    seed: int, purpose: Purpose, *, round: int, entity: int, size: int, lane: int = 0
) -> NDArray[np.int64]:
    """Return a keyed permutation of range(size), int64 [size]."""
    words = random_words(seed, purpose, round=round, entity=entity, count=2 * size, lane=lane)
    # 64 random bits a position: ties are as good as impossible, and the stable sort settles them the same way anyway.
    keys = (words[0::2] << 31) ^ words[1::2]
    return np.argsort(keys, kind="stable")


def random_key(seed: int, purpose: Purpose, *, round: int = 0, entity: int = 0) -> int:
    """Return one 63-bit number, to seed a foreign generator (model initialisation) from the run's stream."""
    words = random_words(seed, purpose, round=round, entity=entity, count=2)
    return int((words[0] << 31) ^ words[1])
