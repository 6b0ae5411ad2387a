"""What local training takes in and gives out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.training.batches import num_steps
from hpcfsl.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class LocalData:
    """The samples that a chunk of clients trains on, back to back.

    Attributes:
        clients: Client ids, int64 [clients], ascending.
        counts: Samples of each client, int64 [clients].
        inputs: float32 [sum(counts), ...], or tokens, int64 [sum(counts), positions].
        targets: Classes, int64 [sum(counts)] or [sum(counts), positions]; or numbers, float32 [sum(counts), outputs].
    """

    clients: NDArray[np.int64]
    counts: NDArray[np.int64]
    inputs: torch.Tensor
    targets: torch.Tensor

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row of each client's first sample, int64 [clients]."""
        return np.cumsum(self.counts) - self.counts

    def chunk(self, start: int, stop: int) -> LocalData:
        """Return clients `start` to `stop` (positions, not ids), as far as there are so many."""
        rows = slice(int(self.starts[start]), int(self.starts[start] + self.counts[start:stop].sum()))
        return LocalData(
            clients=self.clients[start:stop],
            counts=self.counts[start:stop],
            inputs=self.inputs[rows],
            targets=self.targets[rows],
        )


@dataclass(frozen=True, kw_only=True)
class FirstUpdates:
    """The first model updates `u_i` of a group's clients (P2, step 2).

    Attributes:
        clients: Client ids, int64 [clients], ascending.
        updates: Weights after local training minus weights before, float32 [clients, params], client half first.
        samples: Training samples of each client, int64 [clients].
        steps: Local SGD steps taken, int64 [clients].
        loss_first: Mean training loss over the first epoch, float64 [clients].
        loss_last: Mean training loss over the last epoch, float64 [clients].
    """

    clients: NDArray[np.int64]
    updates: torch.Tensor
    samples: NDArray[np.int64]
    steps: NDArray[np.int64]
    loss_first: NDArray[np.float64]
    loss_last: NDArray[np.float64]


def first_updates(
    data: LocalData,
    updates: torch.Tensor,
    loss_first: NDArray[np.float64],
    loss_last: NDArray[np.float64],
    settings: TrainingSettings,
) -> FirstUpdates:
    """Return the outcome of local training on `data`; arrays as in `FirstUpdates`."""
    return FirstUpdates(
        clients=data.clients,
        updates=updates,
        samples=data.counts,
        steps=num_steps(data.counts, batch_size=settings.batch_size, epochs=settings.local_epochs),
        loss_first=loss_first,
        loss_last=loss_last,
    )


def no_updates(size: int) -> FirstUpdates:
    """Return the outcome of training nobody, for a model of `size` parameters."""
    none, nothing = np.zeros(0, np.int64), np.zeros(0)
    return FirstUpdates(
        clients=none, updates=torch.zeros(0, size), samples=none, steps=none, loss_first=nothing, loss_last=nothing
    )


def empty_updates(count: int, size: int) -> torch.Tensor:
    """Return memory on the CPU for the updates of `count` clients, float32 [count, size], not yet written.

    It is numpy's, which asks Linux for large pages: the first touch of a large group's updates then costs a fifth.
    """
    return torch.from_numpy(np.empty((count, size), np.float32))


def gather(parts: Iterable[FirstUpdates], total: int) -> FirstUpdates:
    """Return the chunks of a group of `total` clients as one, in order, holding one chunk's updates twice at most."""
    gathered: list[FirstUpdates] = []
    updates, place = torch.empty(0), 0
    for part in parts:
        count = len(part.clients)
        if count == total:
            return part
        if not gathered:
            updates = part.updates.new_empty(total, part.updates.shape[1])
        updates[place : place + count] = part.updates
        place += count
        gathered.append(replace(part, updates=part.updates.new_empty(0)))
    return FirstUpdates(
        clients=np.concatenate([part.clients for part in gathered]),
        updates=updates,
        samples=np.concatenate([part.samples for part in gathered]),
        steps=np.concatenate([part.steps for part in gathered]),
        loss_first=np.concatenate([part.loss_first for part in gathered]),
        loss_last=np.concatenate([part.loss_last for part in gathered]),
    )
