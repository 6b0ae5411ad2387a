"""Local training of a chunk of clients: stacked as one batched computation, or one client after another.

Both give the same updates to float tolerance; which is faster depends on the layers and the device. Dense layers gain
an order of magnitude from stacking; convolutions of stacked weights become grouped convolutions, which are slow on a
CPU, so there a tight loop wins. The choice is a setting (or follows from the model and the device under `auto`), never
a timing, because a timing would break the same bits at another number of ranks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel
from hpcfsl.training.batches import epoch_orders, num_steps
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData, concatenate

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Executor(Protocol):
    """Trains a chunk of clients from common weights."""

    name: str

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk; `start` is float32 [params]."""
        ...


def make_executor(model: SplitModel, settings: TrainingSettings, device: torch.device) -> Executor:
    """Return the executor of a run.

    Raises:
        ConfigError: The settings ask for what the device or the executor cannot do.
    """
    name = choose_executor(model, settings, device)
    if name == "native":
        raise ConfigError("training.executor", name, "has no compiled kernels here; use 'auto'")
    kinds: dict[str, type[StackedExecutor | OneByOneExecutor]] = {
        "stacked": StackedExecutor,
        "one-by-one": OneByOneExecutor,
    }
    return kinds[name](model, settings, device)


def choose_executor(model: SplitModel, settings: TrainingSettings, device: torch.device) -> str:
    """Return the name of the executor: the one the settings name, or that fits the model and the device under `auto`.

    A function of these three alone, never of a timing, which would break the same bits at another number of ranks.

    Raises:
        ConfigError: The settings ask for what the device or the executor cannot do.
    """
    _check_device(settings, device)
    if settings.executor != "auto":
        return settings.executor
    return "stacked" if device.type == "cuda" or not _has_convolutions(model) else "one-by-one"


def _check_device(settings: TrainingSettings, device: torch.device) -> None:
    if device.type != "cuda" and settings.precision == "tf32":
        raise ConfigError("training.precision", "tf32", f"needs CUDA, and this rank computes on {device}; use float32")
    if device.type != "cuda" and settings.cuda_graphs:
        raise ConfigError("training.cuda_graphs", True, f"needs CUDA, and this rank computes on {device}; use false")
    if settings.cuda_graphs and settings.executor not in ("auto", "stacked"):
        raise ConfigError("training.cuda_graphs", True, "works in executor 'stacked' only; use that, or false")
    if settings.executor == "native" and settings.precision != "float32":
        raise ConfigError("training.precision", settings.precision, "is torch's; executor 'native' computes in float32")
    if settings.executor == "native" and device.type == "cuda":
        raise ConfigError("training.executor", "native", "computes on the CPU only; use 'stacked' on a GPU")


def train_group(
    executor: Executor, start: Tensor, data: LocalData, *, chunk: int, seed: int, round: int
) -> FirstUpdates:
    """Return the first model updates of a whole group, `chunk` clients at a time."""
    starts = range(0, len(data.clients), chunk)
    return concatenate(
        [
            executor.train(start, data.chunk(first, min(first + chunk, len(data.clients))), seed=seed, round=round)
            for first in starts
        ]
    )


class OneByOneExecutor:
    """Trains clients one after another on one resident model whose parameters are views of one flat vector."""

    name = "one-by-one"

    def __init__(self, model: SplitModel, settings: TrainingSettings, device: torch.device) -> None:
        self._settings = settings
        self._flat = torch.zeros(model.layout.size, device=device)
        self._halves = (
            nn.Sequential(copy.deepcopy(model.client_half), copy.deepcopy(model.server_half)).to(device).train()
        )
        self._parameters = list(self._halves.parameters())
        offset = 0
        for parameter in self._parameters:
            parameter.data = self._flat[offset : offset + parameter.numel()].view(parameter.shape)
            offset += parameter.numel()
        assert offset == model.layout.size

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk."""
        settings, count = self._settings, len(data.clients)
        updates = torch.empty(count, len(self._flat), device=self._flat.device)
        losses = np.zeros((settings.local_epochs, count))
        orders = [
            epoch_orders(data.counts, seed=seed, round=round, clients=data.clients, epoch=epoch)
            for epoch in range(settings.local_epochs)
        ]
        for row in range(count):
            self._flat.copy_(start)
            velocity = torch.zeros_like(self._flat) if settings.momentum else None
            rows = slice(int(data.starts[row]), int(data.starts[row] + data.counts[row]))
            for epoch, order in enumerate(orders):
                losses[epoch, row] = self._run_epoch(
                    data.inputs[rows], data.targets[rows], order[row, : data.counts[row]], velocity
                )
            torch.sub(self._flat, start, out=updates[row])
        return _first_updates(data, updates, losses, settings)

    def _run_epoch(self, inputs: Tensor, targets: Tensor, order: np.ndarray, velocity: Tensor | None) -> float:
        # One gather an epoch; a step's batch is then a view.
        index = torch.from_numpy(order).to(inputs.device)
        inputs, targets, size = inputs[index], targets[index], self._settings.batch_size
        total = torch.zeros((), dtype=torch.float64, device=inputs.device)
        for first in range(0, len(order), size):
            batch = inputs[first : first + size]
            loss = functional.cross_entropy(self._halves(batch), targets[first : first + size])
            gradients = torch.autograd.grad(loss, self._parameters)
            self._step(gradients, velocity)
            total += loss.detach().double() * len(batch)
        return float(total) / len(order)

    def _step(self, gradients: tuple[Tensor, ...], velocity: Tensor | None) -> None:
        settings = self._settings
        with torch.no_grad():
            if velocity is None and not settings.weight_decay:
                torch._foreach_add_(
                    [parameter.data for parameter in self._parameters], gradients, alpha=-settings.learning_rate
                )
                return
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            _sgd_step(self._flat, flat, velocity, settings)


class StackedExecutor:
    """Trains a chunk of clients at once: weights stacked as [clients, params], the step batched by `torch.func`."""

    name = "stacked"

    def __init__(self, model: SplitModel, settings: TrainingSettings, device: torch.device) -> None:
        self._model, self._settings, self._device = model, settings, device
        self._step_all = _stacked_step(model)

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk."""
        settings, count = self._settings, len(data.clients)
        weights = start.expand(count, -1).clone()
        velocity = torch.zeros_like(weights) if settings.momentum else None
        losses = np.zeros((settings.local_epochs, count))
        for epoch in range(settings.local_epochs):
            order = epoch_orders(data.counts, seed=seed, round=round, clients=data.clients, epoch=epoch)
            losses[epoch] = self._run_epoch(weights, velocity, data, order)
        return _first_updates(data, weights.sub_(start), losses, settings)

    def _run_epoch(self, weights: Tensor, velocity: Tensor | None, data: LocalData, order: np.ndarray) -> np.ndarray:
        size, longest = self._settings.batch_size, order.shape[1]
        rows = torch.from_numpy(np.where(order < 0, 0, order + data.starts[:, None])).to(self._device)
        present = torch.from_numpy(order >= 0).to(self._device)
        total = torch.zeros(len(weights), dtype=torch.float64, device=self._device)
        for first in range(0, longest, size):
            batch, mask = rows[:, first : first + size], present[:, first : first + size]
            # Clients with no sample left are selected out of the step, so they cost nothing and nothing touches them.
            active = torch.nonzero(mask.any(dim=1)).squeeze(1)
            whole = len(active) == len(weights)
            chosen = weights if whole else weights[active]
            batch, mask = batch[active], mask[active].float()
            gradients, loss = self._step_all(chosen, data.inputs[batch], data.targets[batch], mask)
            moving = velocity if velocity is None or whole else velocity[active]
            _sgd_step(chosen, gradients, moving, self._settings)
            if not whole:
                weights[active] = chosen
                if velocity is not None and moving is not None:
                    velocity[active] = moving
            total[active] += loss.double() * mask.sum(dim=1)
        return np.asarray(total.cpu().numpy() / data.counts)


def _stacked_step(model: SplitModel) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    def loss_of(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        losses = functional.cross_entropy(model.forward(weights, inputs), targets, reduction="none")
        return (losses * mask).sum() / mask.sum()

    step = torch.func.vmap(torch.func.grad_and_value(loss_of))

    def step_all(weights: Tensor, inputs: Tensor, targets: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        named, loss = step(model.layout.unflatten(weights), inputs, targets, mask)
        return torch.cat([named[name].flatten(1) for name in model.layout.names], dim=1), loss

    return step_all


def _sgd_step(weights: Tensor, gradients: Tensor, velocity: Tensor | None, settings: TrainingSettings) -> None:
    if settings.weight_decay:
        gradients = gradients.add(weights, alpha=settings.weight_decay)
    if velocity is not None:
        gradients = velocity.mul_(settings.momentum).add_(gradients)
    weights.add_(gradients, alpha=-settings.learning_rate)


def _first_updates(data: LocalData, updates: Tensor, losses: np.ndarray, settings: TrainingSettings) -> FirstUpdates:
    return FirstUpdates(
        clients=data.clients,
        updates=updates,
        samples=data.counts,
        steps=num_steps(data.counts, batch_size=settings.batch_size, epochs=settings.local_epochs),
        loss_first=losses[0],
        loss_last=losses[-1],
    )


def _has_convolutions(model: SplitModel) -> bool:
    halves = (model.client_half, model.server_half)
    return any(isinstance(module, CONVOLUTIONS) for half in halves for module in half.modules())
