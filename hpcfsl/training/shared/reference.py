"""The slow, obvious training of a group with one server half. Tests hold `trainer` and `replay` to it.

Plain SGD with momentum, plain autograd, one client and one step at a time, everything written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.split import SplitModel
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What one client sent in one step: its row, its step's place in the order of all, smashed data and answers."""

    row: int
    place: int
    smashed: Tensor
    answers: Tensor


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """First model updates, float32 [clients, params], the server half's displacement, and what the server received."""

    updates: Tensor
    displacement: Tensor
    sent: list[Sent]


def train_together(
    model: SplitModel, start: Tensor, data: LocalData, settings: TrainingSettings, *, seed: int, round: int
) -> Outcome:
    """Return what comes of all clients' steps side by side."""
    cut, shares = model.layout.client_size, data.counts / data.counts.sum()
    own, server = [start[:cut].clone() for _ in data.clients], start[cut:].clone()
    pace, server_pace = [torch.zeros(cut) for _ in data.clients], torch.zeros(len(server))
    evidence, sent, place = torch.zeros(len(data.clients), len(server)), list[Sent](), 0
    for epoch in range(settings.local_epochs):
        batches = [_batches(data, row, settings, epoch, seed=seed, round=round) for row in range(len(data.clients))]
        for step in range(max(map(len, batches))):
            active = [row for row, own_batches in enumerate(batches) if step < len(own_batches)]
            total, mean = sum(len(batches[row][step]) for row in active), torch.zeros(len(server))
            for row in active:
                gradient, received = _gradient(model, torch.cat([own[row], server]), data, batches[row][step], settings)
                sent.append(Sent(row=row, place=place, smashed=received[0], answers=received[1]))
                part = len(batches[row][step]) / total
                mean += part * gradient[cut:]
                evidence[row] -= settings.learning_rate * part / float(shares[row]) * gradient[cut:]
                pace[row] = settings.momentum * pace[row] + gradient[:cut]
                own[row] = own[row] - settings.learning_rate * pace[row]
            server_pace = settings.momentum * server_pace + mean
            server, place = server - settings.learning_rate * server_pace, place + 1
    moved = torch.stack(own) - start[:cut]
    return Outcome(updates=torch.cat([moved, evidence], dim=1), displacement=server - start[cut:], sent=sent)


def train_in_turn(
    model: SplitModel,
    start: Tensor,
    data: LocalData,
    settings: TrainingSettings,
    order: NDArray[np.int64],
    *,
    seed: int,
    round: int,
) -> Outcome:
    """Return what comes of clients training one after the other, in this order."""
    cut, server = model.layout.client_size, start[model.layout.client_size :].clone()
    updates, sent, place = torch.zeros(len(data.clients), len(start)), list[Sent](), 0
    for row in order.tolist():
        before = torch.cat([start[:cut], server])
        weights, pace = before.clone(), torch.zeros(len(start))
        for epoch in range(settings.local_epochs):
            for batch in _batches(data, row, settings, epoch, seed=seed, round=round):
                gradient, received = _gradient(model, weights, data, batch, settings)
                sent.append(Sent(row=row, place=place, smashed=received[0], answers=received[1]))
                pace = settings.momentum * pace + gradient
                weights, place = weights - settings.learning_rate * pace, place + 1
        updates[row], server = weights - before, weights[cut:]
    return Outcome(updates=updates, displacement=server - start[cut:], sent=sent)


def replay(
    model: SplitModel, start: Tensor, sent: list[Sent], scales: dict[int, float], settings: TrainingSettings
) -> Tensor:
    """Return the server half's displacement from the steps of the clients in `scales` alone; plain SGD."""
    cut = model.layout.client_size
    server = start[cut:].clone()
    for place in sorted({each.place for each in sent}):
        here = [each for each in sent if each.place == place and each.row in scales]
        total, moved = sum(len(each.smashed) for each in here), torch.zeros(len(server))
        for each in here:
            leaf = server.clone().requires_grad_()
            returned = model.server_forward(model.layout.unflatten(torch.cat([start[:cut], leaf])), each.smashed)
            loss = (returned * each.answers).sum() if model.has_tail else sample_losses(returned, each.answers).mean()
            gradient = torch.autograd.grad(loss, leaf)[0]
            moved += scales[each.row] * len(each.smashed) / total * gradient
        server = server - settings.learning_rate * moved
    return server - start[cut:]


def _batches(
    data: LocalData, row: int, settings: TrainingSettings, epoch: int, *, seed: int, round: int
) -> list[Tensor]:
    """Return the rows of `data` in each of a client's batches."""
    one = slice(row, row + 1)
    order = epoch_orders(data.counts[one], seed=seed, round=round, clients=data.clients[one], epoch=epoch)[0]
    return list(torch.from_numpy(order + data.starts[row]).split(settings.batch_size))


def _gradient(
    model: SplitModel, weights: Tensor, data: LocalData, batch: Tensor, settings: TrainingSettings
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradient of a batch's mean loss, and what the server received."""
    leaf = weights.clone().requires_grad_()
    named = model.layout.unflatten(leaf)
    smashed = model.link(model.client_forward(named, data.inputs[batch]))
    returned = model.server_forward(named, smashed)
    loss = sample_losses(model.tail_forward(named, returned), data.targets[batch], settings.loss).mean()
    gradient, output_gradient = torch.autograd.grad(loss, [leaf, returned])
    return gradient, (smashed.detach(), output_gradient if model.has_tail else data.targets[batch])
