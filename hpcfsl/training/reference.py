"""The slow, obvious local training: one client, plain autograd, a written-out optimiser. Tests hold executors to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.models.split import SplitModel
from hpcfsl.seeding import Purpose, random_words
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.settings import LossName, TrainingSettings


def train_client(
    model: SplitModel,
    start: Tensor,
    inputs: Tensor,
    targets: Tensor,
    settings: TrainingSettings,
    *,
    seed: int,
    round: int,
    client: int,
    drift: Tensor | None = None,
) -> Tensor:
    """Return one client's first model update, float32 [params]: forward to the cut, over it, loss, back, step.

    `drift`, float32 [params], is added to each gradient.
    """
    weights, mean, square, step = start.clone(), torch.zeros_like(start), torch.zeros_like(start), 0
    rate = torch.full_like(start, settings.learning_rate)
    rate[model.layout.client_size :] = settings.server_half_learning_rate or settings.learning_rate
    for epoch in range(settings.local_epochs):
        counts, clients = np.array([len(targets)]), np.array([client])
        order = epoch_orders(counts, seed=seed, round=round, clients=clients, epoch=epoch)[0]
        for first in range(0, len(order), settings.batch_size):
            batch = torch.from_numpy(order[first : first + settings.batch_size])
            _set_masks(model, seed=seed, round=round, client=client, step=step, batch=len(batch))
            gradient = _gradient(model, weights, inputs[batch], targets[batch], settings.loss)
            gradient = gradient if drift is None else gradient + drift
            gradient = gradient + settings.proximal * (weights - start)
            norm = float(gradient.norm())
            if settings.clip_norm > 0 and norm > settings.clip_norm:
                gradient = gradient * (settings.clip_norm / norm)
            gradient, step = gradient + settings.weight_decay * weights, step + 1
            if settings.optimizer == "sgd":
                mean = settings.momentum * mean + gradient
                weights = weights - rate * mean
            else:
                mean = settings.adam_beta1 * mean + (1 - settings.adam_beta1) * gradient
                square = settings.adam_beta2 * square + (1 - settings.adam_beta2) * gradient**2
                mean_hat = mean / (1 - settings.adam_beta1**step)
                square_hat = square / (1 - settings.adam_beta2**step)
                weights = weights - rate * mean_hat / (square_hat.sqrt() + settings.adam_epsilon)
    _drop_masks(model)
    return weights - start


def _gradient(model: SplitModel, weights: Tensor, inputs: Tensor, targets: Tensor, loss_name: LossName) -> Tensor:
    """Return the gradient of the batch's mean loss, as the two sides compute it."""
    leaf = weights.clone().requires_grad_()
    named = model.layout.unflatten(leaf)
    smashed = model.client_forward(named, inputs)
    sent = smashed.detach().requires_grad_()
    outputs = model.tail_forward(named, model.server_forward(named, model.link(sent)))
    loss = sample_losses(outputs, targets, loss_name).mean()
    # `materialize_grads`: with no cut nothing of the weights is at the server, and its gradient is zero.
    server_gradient, cut_gradient = torch.autograd.grad(loss, [leaf, sent], materialize_grads=True)
    client_gradient = torch.autograd.grad(smashed, leaf, grad_outputs=cut_gradient)[0]
    return client_gradient + server_gradient


def _dropouts(model: SplitModel) -> list[KeyedDropout]:
    modules = [layer for half in (model.client_half, model.server_half, model.tail) for layer in half.modules()]
    return [layer for layer in modules if isinstance(layer, KeyedDropout)]


def _set_masks(model: SplitModel, *, seed: int, round: int, client: int, step: int, batch: int) -> None:
    for layer in _dropouts(model):
        features = int(np.prod(layer.features))
        words = random_words(
            seed,
            Purpose.DROPOUT,
            round=round,
            entity=client,
            lane=step * MAX_LAYERS + layer.layer,
            count=batch * features,
        )
        kept = (words >= int(np.round(layer.p * 2**32))) / (1 - layer.p)
        layer.mask = torch.from_numpy(kept.astype(np.float32).reshape(batch, *layer.features))


def _drop_masks(model: SplitModel) -> None:
    for layer in _dropouts(model):
        layer.mask = None
