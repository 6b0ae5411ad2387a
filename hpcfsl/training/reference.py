"""The slow, obvious local training: one client, plain autograd, a written-out optimiser. Tests hold executors to it."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from hpcfsl.models.split import SplitModel
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.settings import TrainingSettings


def train_client(
    model: SplitModel,
    start: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    settings: TrainingSettings,
    *,
    seed: int,
    round: int,
    client: int,
) -> torch.Tensor:
    """Return one client's first model update, float32 [params]: forward to the cut, over it, loss, back, step."""
    weights, velocity = start.clone(), torch.zeros_like(start)
    for epoch in range(settings.local_epochs):
        counts, clients = np.array([len(targets)]), np.array([client])
        order = epoch_orders(counts, seed=seed, round=round, clients=clients, epoch=epoch)[0]
        for first in range(0, len(order), settings.batch_size):
            batch = torch.from_numpy(order[first : first + settings.batch_size])
            leaf = weights.clone().requires_grad_()
            named = model.layout.unflatten(leaf)
            smashed = model.client_forward(named, inputs[batch])
            at_server = smashed.detach().requires_grad_()
            loss = functional.cross_entropy(model.server_forward(named, at_server), targets[batch])
            # `materialize_grads`: with no cut nothing of the weights is at the server, and its gradient is zero.
            server_gradient, cut_gradient = torch.autograd.grad(loss, [leaf, at_server], materialize_grads=True)
            client_gradient = torch.autograd.grad(smashed, leaf, grad_outputs=cut_gradient)[0]
            gradient = client_gradient + server_gradient
            velocity = settings.momentum * velocity + gradient + settings.weight_decay * weights
            weights = weights - settings.learning_rate * velocity
    return weights - start
