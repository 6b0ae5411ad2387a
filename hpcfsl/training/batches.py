"""Keyed shuffling: which samples form which local step, for a whole chunk of clients at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.native.orders import shuffled
from hpcfsl.seeding import Purpose, key_of, random_words

_LAST = np.iinfo(np.int64).max


def epoch_orders(
    counts: NDArray[np.int64], *, seed: int, round: int, clients: NDArray[np.int64], epoch: int
) -> NDArray[np.int64]:
    """Return each client's sample order in one epoch, int64 [clients, max(counts)].

    Row i holds a keyed permutation of range(counts[i]), then -1. A client's order depends on (seed, round, client,
    epoch) alone, not on who else is in the chunk.
    """
    key = key_of(seed, Purpose.BATCH_ORDER)
    found = shuffled(counts, key=key, round=round, clients=clients, lane=epoch)
    if found is not None:
        return found
    return _orders(counts, seed=seed, round=round, clients=clients, epoch=epoch)


def _orders(
    counts: NDArray[np.int64], *, seed: int, round: int, clients: NDArray[np.int64], epoch: int
) -> NDArray[np.int64]:
    """Return what the kernel returns, without it."""
    longest = int(counts.max())
    words = random_words(seed, Purpose.BATCH_ORDER, round=round, entity=clients, count=2 * longest, lane=epoch)
    absent = np.arange(longest) >= counts[:, None]
    keys = np.where(absent, _LAST, (words[:, 0::2] << 31) ^ words[:, 1::2])
    return np.where(absent, -1, np.argsort(keys, axis=1, kind="stable"))


def num_steps(counts: NDArray[np.int64], *, batch_size: int, epochs: int) -> NDArray[np.int64]:
    """Return the local steps of each client, int64 [clients]."""
    return -(-counts // batch_size) * epochs
