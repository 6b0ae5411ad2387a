"""Keyed shuffling of many clients' samples at once; `hpcfsl.training.batches` has its obvious counterpart."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from hpcfsl.native.library import library


def shuffled(
    counts: NDArray[np.int64], *, key: tuple[int, int], round: int, clients: NDArray[np.int64], lane: int
) -> NDArray[np.int64] | None:
    """Return a keyed permutation of range(counts[i]), then -1, for each client, int64 [clients, max(counts)].

    None where the kernels were not built.
    """
    loaded = library()
    if loaded is None:
        return None
    counts, clients = (np.ascontiguousarray(array, np.int64) for array in (counts, clients))
    orders = np.empty((len(counts), int(counts.max())), np.int64)
    words = (ctypes.c_uint32 * 2)(*key)
    done = loaded.hpcfsl_shuffle(
        counts.ctypes.data, clients.ctypes.data, *orders.shape, words, round, lane, orders.ctypes.data
    )
    if not done:
        raise MemoryError(f"no memory to shuffle a client of {orders.shape[1]} samples")
    return orders
