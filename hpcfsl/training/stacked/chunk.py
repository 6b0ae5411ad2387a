"""The local steps of a chunk of clients: which samples each takes, and what is absent where clients are ragged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.dropout import keep_masks
from hpcfsl.training.updates import LocalData


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One local step's samples.

    Attributes:
        active: How many clients take the step; the first ones.
        width: Samples of each, present or not.
        inputs: [active * width, ...].
        targets: [active * width, ...].
        shares: Part of each sample in its client's mean loss, 0 for absent ones, [active, width]; None where all
            samples are present.
        masks: One [active * width, *features] a dropout layer.
    """

    active: int
    width: int
    inputs: Tensor
    targets: Tensor
    shares: Tensor | None
    masks: list[Tensor]


class Chunk:
    """The clients of a chunk, those with the most samples first.

    Args:
        data: Their samples.
        order: Position in `data` of each client, int64 [clients].
        batch_size: Samples in a local step.
        seed: The run's seed.
        round: The round.
        device: Where to train.
    """

    def __init__(
        self,
        data: LocalData,
        order: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int,
        round: int,
        device: torch.device,
    ) -> None:
        self._data, self._size, self._seed, self._round, self._device = data, batch_size, seed, round, device
        self._clients, self._counts, self._starts = data.clients[order], data.counts[order], data.starts[order]

    def batches(self, epoch: int, dropouts: Sequence[KeyedDropout]) -> Iterator[Batch]:
        """Yield the steps of an epoch."""
        order = epoch_orders(self._counts, seed=self._seed, round=self._round, clients=self._clients, epoch=epoch)
        # An absent sample stands for its client's first one: it weighs nothing, but must not be another client's NaN.
        rows = torch.from_numpy(np.maximum(order, 0) + self._starts[:, None]).to(self._device)
        for number, first in enumerate(range(0, rows.shape[1], self._size)):
            left = self._counts[self._counts > first] - first
            active, width = len(left), min(self._size, int(left[0]))
            index = rows[:active, first : first + width].flatten()
            yield Batch(
                active=active,
                width=width,
                inputs=self._data.inputs.index_select(0, index),
                targets=self._data.targets.index_select(0, index),
                shares=self._shares(left, width),
                masks=[self._mask(layer, epoch, number, active, width) for layer in dropouts],
            )

    def mean_losses(self, losses: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return each client's mean loss over an epoch, float64 [clients], of those of its steps, [active] each."""
        total, found = np.zeros(len(self._counts)), torch.cat(list(losses)).double().cpu().numpy()
        place = 0
        for number, each in enumerate(losses):
            active = len(each)
            sizes = np.minimum(self._counts[:active] - number * self._size, self._size)
            total[:active] += found[place : place + active] * sizes
            place += active
        return total / self._counts

    def _shares(self, left: NDArray[np.int64], width: int) -> Tensor | None:
        if left[-1] >= width:
            return None
        sizes = np.minimum(left, width)[:, None]
        return torch.from_numpy(((np.arange(width) < sizes) / sizes).astype(np.float32)).to(self._device)

    def _mask(self, layer: KeyedDropout, epoch: int, number: int, active: int, width: int) -> Tensor:
        in_epoch = -(-self._counts[:active] // self._size)
        return keep_masks(
            layer,
            seed=self._seed,
            round=self._round,
            clients=self._clients[:active],
            steps=epoch * in_epoch + number,
            batch=width,
            device=self._device,
        )
