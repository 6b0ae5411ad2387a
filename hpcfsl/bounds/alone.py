"""Training one party on samples of its own, pass by pass, with the executors of a run.

The ceiling is one party that holds everything; the floor is many parties of one client each. Both take the local steps
of the configuration: the same optimiser, rate and batch, its state from zero on every pass as a client's is in every
round. A pass has the number of a round, so that a client alone sees its samples in the order of a run with all clients.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.training.executors import Executor, make_executor
from hpcfsl.training.updates import LocalData
from hpcfsl.world import World


def make_trainer(world: World, most_samples: int) -> Executor:
    """Return what trains a party of at most `most_samples` samples for one pass.

    FedProx's pull to the start of a round is left out: a party alone has no others to stay close to.
    """
    settings = world.config.training.replace(local_epochs=1, proximal=0.0)
    return make_executor(world.model, settings, world.device, most_samples=most_samples)


def train_party(world: World, trainer: Executor, rows: NDArray[np.int64], *, client: int, passes: int) -> torch.Tensor:
    """Return the weights of a party after some passes over its samples, float32 [params].

    Args:
        world: The run.
        trainer: From `make_trainer`.
        rows: The party's training rows, int64 [samples].
        client: Its number, which keys the order of its samples.
        passes: How often it sees each sample.
    """
    seed = world.config.run.seed
    weights = world.model.initial_weights(seed).to(world.device)
    data = LocalData(
        clients=np.array([client]),
        counts=np.array([len(rows)]),
        inputs=torch.from_numpy(world.feed.inputs(rows)).to(world.device),
        targets=torch.from_numpy(world.feed.targets(rows)).to(world.device),
    )
    for number in range(passes):
        weights = weights + trainer.train(weights, data, seed=seed, round=number).updates[0]
    return weights


def expected_passes(world: World) -> int:
    """Return how often a run sees each sample in the mean, to the nearest whole number, at least 1."""
    config, count = world.config, world.population.num_clients
    participants = len(config.participation.draw(count, config.run.seed, 0))
    return max(1, round(config.run.rounds * config.training.local_epochs * participants / count))
