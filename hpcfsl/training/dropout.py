"""Dropout masks as a function of (seed, round, client, local step, layer), never of a call order.

The words are those that `hpcfsl.models.dropout` names. They are made on the device, by the generator of
`hpcfsl.seeding`, whose integers are the same on any.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.seeding import Purpose, key_of, philox

_BLOCKS = 1 << 15
"""Blocks of four words made at a time: their temporaries stay in a core's cache."""


def keep_masks(
    layer: KeyedDropout,
    *,
    seed: int,
    round: int,
    clients: NDArray[np.int64],
    steps: NDArray[np.int64],
    batch: int,
    device: torch.device,
) -> Tensor:
    """Return the masks of one layer, float32 [clients * batch, *features]: 0 where dropped, else 1 / (1 - p).

    Args:
        layer: The dropout layer of a split model.
        seed: The run's seed.
        round: The round.
        clients: Client ids, int64 [clients].
        steps: The local step that each client takes, int64 [clients].
        batch: Samples in each client's step; the first of them have the same masks in a smaller batch.
        device: Where to make them.
    """
    count = batch * prod(layer.features)
    blocks, rows = -(-count // 4), len(clients)
    bound, kept = round_to_words(layer.p), 1.0 / (1.0 - layer.p)
    lanes, entities = _column(steps * MAX_LAYERS + layer.layer, device), _column(clients, device)
    masks = torch.empty(rows, blocks, 4, device=device)
    width = max(1, _BLOCKS // rows)
    for first in range(0, blocks, width):
        counters = torch.arange(first, min(first + width, blocks), device=device)
        words = philox((counters, lanes, entities, round), key_of(seed, Purpose.DROPOUT))
        for place, word in enumerate(words):
            torch.mul(word >= bound, kept, out=masks[:, first : first + width, place])
    return masks.flatten(1)[:, :count].reshape(rows * batch, *layer.features)


def round_to_words(p: float) -> int:
    """Return the word below which a number is dropped: the share `p` of all 2**32 words."""
    return round(p * 2**32)


def _column(values: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)[:, None]
