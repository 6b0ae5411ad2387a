"""Local training of one client after another, on one resident model.

Choose it where stacking does not pay (convolutions on a CPU), or where a module cannot be stacked. A client's update
has the same bits in any company.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.split import SplitModel
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.dropout import keep_masks
from hpcfsl.training.loss import mean_loss
from hpcfsl.training.optimisers import LocalOptimiser, rates_of
from hpcfsl.training.precision import autocast
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData, first_updates


class OneByOneExecutor:
    """Trains clients one after another on a model whose parameters are views of one flat vector.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.
        detail: Why not stacked, for the record.
    """

    name = "one-by-one"
    whole_groups = False

    def __init__(
        self, model: SplitModel, settings: TrainingSettings, device: torch.device, *, detail: str = ""
    ) -> None:
        self.detail, self._settings, self._device = detail, settings, device
        self.chunk_clients = settings.chunk_clients
        self._halves = model.pieces().to(device).train()
        self._dropouts = [layer for layer in self._halves.modules() if isinstance(layer, KeyedDropout)]
        self._flat, self._start, self._drift = torch.zeros(3, model.layout.size, device=device)
        self._parameters = _resident(self._halves, model, self._flat)
        views = [
            [each.view(1, -1) for each in model.layout.unflatten(flat).values()]
            for flat in (self._flat, self._start, self._drift)
        ]
        self._optimiser = LocalOptimiser(
            settings,
            views[0],
            views[1],
            rates_of(model.layout, settings),
        )
        self._drifts = views[2]

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk."""
        settings, count = self._settings, len(data.clients)
        self._optimiser.drift = [] if data.drift is None else self._drifts
        updates = torch.empty(count, len(self._flat), device=self._device)
        losses = np.zeros((settings.local_epochs, count))
        orders = [
            epoch_orders(data.counts, seed=seed, round=round, clients=data.clients, epoch=epoch)
            for epoch in range(settings.local_epochs)
        ]
        for row in range(count):
            client = _Client(data, row, seed=seed, round=round)
            self._start.copy_(start if start.ndim == 1 else start[row])
            if data.drift is not None:
                self._drift.copy_(data.drift[row])
            self._flat.copy_(self._start)
            self._optimiser.reset()
            for epoch, order in enumerate(orders):
                losses[epoch, row] = self._run_epoch(client, order[row, : data.counts[row]], epoch)
            torch.sub(self._flat, self._start, out=updates[row])
        return first_updates(data, updates, losses[0], losses[-1], settings)

    def _run_epoch(self, client: _Client, order: NDArray[np.int64], epoch: int) -> float:
        # One gather an epoch; a step's batch is then a view.
        index, size = torch.from_numpy(order).to(self._device), self._settings.batch_size
        inputs, targets = client.inputs[index], client.targets[index]
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        step = epoch * -(-len(order) // size)
        for first in range(0, len(order), size):
            batch = inputs[first : first + size]
            self._set_masks(client, step, len(batch))
            with autocast(self._settings, self._device):
                loss = mean_loss(self._halves(batch), targets[first : first + size], self._settings.loss)
            self._optimiser.step(torch.autograd.grad(loss, self._parameters, materialize_grads=True), 1)
            total += loss.detach().double() * len(batch)
            step += 1
        return float(total) / len(order)

    def _set_masks(self, client: _Client, step: int, batch: int) -> None:
        for layer in self._dropouts:
            layer.mask = keep_masks(
                layer,
                seed=client.seed,
                round=client.round,
                clients=client.ids,
                steps=np.array([step]),
                batch=batch,
                device=self._device,
            )


class _Client:
    """One client's samples, and the key of its random numbers."""

    def __init__(self, data: LocalData, row: int, *, seed: int, round: int) -> None:
        rows = slice(int(data.starts[row]), int(data.starts[row] + data.counts[row]))
        self.inputs, self.targets = data.inputs[rows], data.targets[rows]
        self.ids, self.seed, self.round = data.clients[row : row + 1], seed, round


def _resident(halves: nn.Module, model: SplitModel, flat: Tensor) -> list[nn.Parameter]:
    """Make the parameters of `halves` views of `flat`; return them in the order of the layout."""
    found = dict(halves.named_parameters())
    parameters = []
    for name, view in model.layout.unflatten(flat).items():
        found[name].data = view
        parameters.append(found[name])
    return parameters
