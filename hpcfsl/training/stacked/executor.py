"""Local training of a chunk of clients at once.

Choose it on a GPU, and on a CPU for models of small dense layers. Clients are ordered by their samples, the most first,
so that those with samples left are always the first rows of every tensor: a ragged chunk wastes no step on a client
that has finished, and copies no weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hpcfsl.models.split import SplitModel
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked.capture import CapturedStep
from hpcfsl.training.stacked.chunk import Batch, Chunk
from hpcfsl.training.stacked.functional import FunctionalStep
from hpcfsl.training.stacked.graph import GraphStep
from hpcfsl.training.stacked.stack import Stack
from hpcfsl.training.updates import FirstUpdates, LocalData, first_updates


class StackedExecutor:
    """Trains a chunk of clients at once.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.
        step: Forward and backward pass of many clients.
        detail: By which kind of step and why, for the record.
    """

    name = "stacked"
    whole_groups = False

    def __init__(
        self,
        model: SplitModel,
        settings: TrainingSettings,
        device: torch.device,
        step: GraphStep | FunctionalStep,
        *,
        detail: str = "",
    ) -> None:
        self.detail, self._settings, self._device, self._step = detail, settings, device, step
        self.chunk_clients = settings.chunk_clients
        self._stack = Stack(model.layout, settings, device)
        self._captured = CapturedStep(self._advance, self._stack, device) if settings.cuda_graphs else None

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk."""
        order = np.argsort(-data.counts, kind="stable")
        chunk = Chunk(data, order, self._settings.batch_size, seed=seed, round=round, device=self._device)
        rows = torch.from_numpy(order)
        drift = None if data.drift is None else data.drift[rows]
        self._stack.begin(start if start.ndim == 1 else start[rows], len(order), drift)
        losses = np.zeros((self._settings.local_epochs, len(order)))
        for epoch in range(self._settings.local_epochs):
            steps = [(batch, self._run(batch)) for batch in chunk.batches(epoch, self._step.dropouts)]
            if epoch in (0, self._settings.local_epochs - 1):
                losses[epoch, order] = chunk.mean_losses([loss for _, loss in steps])
        return first_updates(data, self._stack.updates(order), losses[0], losses[-1], self._settings)

    def _run(self, batch: Batch) -> Tensor:
        whole = batch.shares is None and batch.active == self._stack.capacity
        if self._captured is not None and whole and batch.width == self._settings.batch_size:
            return self._captured(batch)
        return self._advance(batch)

    def _advance(self, batch: Batch) -> Tensor:
        """Take one local step; return the loss of each active client before it."""
        leaves = self._stack.leaves(batch.active)
        losses, gradients = self._step(leaves, batch.inputs, batch.targets, batch.shares, batch.masks)
        self._stack.optimiser.step(gradients, batch.active)
        return losses
