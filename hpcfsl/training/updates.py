"""What local training takes in and gives out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
        drift: What is added to each gradient of a client, float32 [clients, params]; None for nothing.
    """

    clients: NDArray[np.int64]
    counts: NDArray[np.int64]
    inputs: torch.Tensor
    targets: torch.Tensor
    drift: torch.Tensor | None = None

    @property
    def starts(self) -> NDArray[np.int64]:
        """Row of each client's first sample, int64 [clients]."""
        return np.cumsum(self.counts) - self.counts

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What training needs on its device."""
        return tuple(tensor for tensor in (self.inputs, self.targets, self.drift) if tensor is not None)

    def map_tensors(self, function: Callable[[torch.Tensor], torch.Tensor]) -> LocalData:
        """Return the same clients with what `function` makes of each of `tensors`."""
        drift = None if self.drift is None else function(self.drift)
        return replace(self, inputs=function(self.inputs), targets=function(self.targets), drift=drift)

    def chunk(self, start: int, stop: int) -> LocalData:
        """Return clients `start` to `stop` (positions, not ids), as far as there are so many."""
        rows = slice(int(self.starts[start]), int(self.starts[start] + self.counts[start:stop].sum()))
        return LocalData(
            clients=self.clients[start:stop],
            counts=self.counts[start:stop],
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            drift=None if self.drift is None else self.drift[start:stop],
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


def rows_of(start: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Return what clients `first` to `last` start from: all of `start` [params], or their rows of [clients, params]."""
    return start if start.ndim == 1 else start[first:last]


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
