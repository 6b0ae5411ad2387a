"""Testing the global model: on the global test set, and on clients' own held-out samples.

Layer 4. The test set is cut into fixed shards, spread over the ranks; counts are integers and losses are added in the
order of the shards, so the result does not depend on how many ranks there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.data.feed import Samples, Targets
from hpcfsl.data.participation import sample_ids
from hpcfsl.seeding import Purpose
from hpcfsl.training.evaluation import evaluate
from hpcfsl.world import World


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What testing gave; NaN and empty where it was not due.

    Attributes:
        accuracy: Share of the global test set that is classified correctly.
        loss: Its mean loss.
        clients: Evaluated clients with held-out samples, int64 [clients], ascending.
        samples: Their held-out samples, int64 [clients]; with a class at each position every position is one.
        correct: How many of them are classified correctly, int64 [clients].
        client_loss: Their mean loss, float64 [clients].
    """

    accuracy: float
    loss: float
    clients: NDArray[np.int64]
    samples: NDArray[np.int64]
    correct: NDArray[np.int64]
    client_loss: NDArray[np.float64]


def evaluate_round(world: World, weights: torch.Tensor, round: int) -> Evaluation:
    """Collective. Return what is due after `round`, the same on every rank."""
    settings = world.config.evaluation
    accuracy = loss = float("nan")
    if (round + 1) % settings.every == 0:
        accuracy, loss = _test_globally(world, weights)
    rows: list[tuple[int, int, int, float]] = []
    if settings.clients_every and (round + 1) % settings.clients_every == 0:
        rows = _test_clients(world, weights)
    columns = np.array(rows, np.float64).reshape(len(rows), 4).T
    clients, samples, correct = (column.astype(np.int64) for column in columns[:3])
    return Evaluation(
        accuracy=accuracy,
        loss=loss,
        clients=clients,
        samples=samples,
        correct=correct,
        client_loss=columns[3] / samples,
    )


def evaluated_clients(world: World) -> NDArray[np.int64]:
    """Return the ids of the clients whose held-out samples are tested, ascending; the same in every round."""
    wanted, population = world.config.evaluation.clients, world.population.num_clients
    if not wanted:
        return np.arange(population)
    return sample_ids(population, wanted, world.config.run.seed, 0, Purpose.EVALUATION)


def _test_globally(world: World, weights: torch.Tensor) -> tuple[float, float]:
    size, total = world.config.evaluation.shard, world.feed.num_test
    mine = {}
    for shard in range(world.communicator.rank, -(-total // size), world.communicator.size):
        inputs, targets = world.feed.test_batch(shard * size, min((shard + 1) * size, total))
        mine[shard] = _evaluate(world, weights, inputs, targets)
    shards: dict[int, tuple[int, float]] = {}
    for part in world.communicator.gather_all(mine):
        shards.update(part)
    if not total:
        return float("nan"), float("nan")
    total *= prod(world.feed.target_shape)
    correct = sum(shards[shard][0] for shard in sorted(shards))
    loss = sum(shards[shard][1] for shard in sorted(shards))
    return float("nan") if world.feed.dataset.has_numbers else correct / total, loss / total


def _test_clients(world: World, weights: torch.Tensor) -> list[tuple[int, int, int, float]]:
    mine = []
    for client in evaluated_clients(world)[world.communicator.rank :: world.communicator.size]:
        inputs, targets = world.feed.client_test(int(client))
        if len(targets):
            correct, loss = _evaluate(world, weights, inputs, targets)
            mine.append((int(client), targets.size, correct, loss))
    return sorted(row for part in world.communicator.gather_all(mine) for row in part)


def _evaluate(world: World, weights: torch.Tensor, inputs: Samples, targets: Targets) -> tuple[int, float]:
    inputs_there, targets_there = (torch.from_numpy(values).to(world.device) for values in (inputs, targets))
    return evaluate(world.model, weights, inputs_there, targets_there)
