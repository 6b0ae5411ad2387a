"""Testing the global model: on the global test set, on clients' own test samples, on clients that never train.

Layer 4. The test set is cut into fixed shards, and the tested clients into fixed blocks, both spread over the ranks;
counts are integers and losses are added in the order of the shards, so the result does not depend on how many ranks
there are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.data.feed import Samples, Targets
from hpcfsl.data.participation import sample_ids
from hpcfsl.naive import naive_metrics
from hpcfsl.parallel.vectors import VectorTable
from hpcfsl.personal import own_weights
from hpcfsl.rows import Rows, join_rows, merge_rows
from hpcfsl.seeding import Purpose
from hpcfsl.state import PERSONAL
from hpcfsl.training.compression.error import relative_error, squares
from hpcfsl.training.evaluation import predict
from hpcfsl.training.metrics import (
    Metrics,
    Predictions,
    Tally,
    add_up,
    join_predictions,
    measure,
    measure_clients,
    tally,
)
from hpcfsl.world import World

Fetch = Callable[[NDArray[np.int64]], tuple[Samples, Targets]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What testing gave; empty where it was not due.

    Attributes:
        metrics: Metrics by population: "test" is the global test set, "clients" the test samples of all evaluated
            clients together, "held-out-clients" the samples of those that never train, "naive" the baseline on the
            global test set, in the first evaluated round alone.
        clients: One row an evaluated client, by the columns of the trace's table `evaluation`.
    """

    metrics: dict[str, Metrics]
    clients: Rows


def evaluate_round(world: World, weights: torch.Tensor, round: int, vectors: Mapping[str, VectorTable]) -> Evaluation:
    """Collective. Return what is due after `round`, the same on every rank.

    Args:
        world: The run.
        weights: The global model, float32 [params].
        round: The round.
        vectors: What stays with the clients whose home this rank is: a client with a personal part is tested with it.
    """
    settings, metrics = world.config.evaluation, dict[str, Metrics]()
    parts: list[Rows] = []
    if (round + 1) % settings.every == 0:
        metrics["test"] = measure_test_set(world, weights) | measure_smashed_error(world, weights)
        if world.feed.held_out is not None:
            metrics["held-out-clients"], rows = measure_held_out(world, weights)
            parts.append(rows)
    if settings.clients_every and (round + 1) % settings.clients_every == 0:
        metrics["clients"], rows = measure_own(world, weights, evaluated_clients(world), vectors.get(PERSONAL))
        parts.append(rows)
    if round + 1 == settings.every:
        metrics["naive"] = world.communicator.broadcast(naive_metrics(world) if world.communicator.rank == 0 else {})
    found = [rows for rows in parts if rows]
    return Evaluation(metrics=metrics, clients=merge_rows(found, "client") if found else {})


def evaluated_clients(world: World) -> NDArray[np.int64]:
    """Return the ids of the clients whose held-out samples are tested, ascending; the same in every round."""
    wanted, population = world.config.evaluation.clients, world.population.num_clients
    if not wanted:
        return np.arange(population)
    return sample_ids(population, wanted, world.config.run.seed, 0, Purpose.EVALUATION)


def measure_test_set(world: World, weights: torch.Tensor) -> Metrics:
    """Collective. Return the metrics of a model on the global test set."""
    size, total = world.config.evaluation.shard, world.feed.num_test

    def tallies() -> Iterator[tuple[int, Tally]]:
        for shard in range(world.communicator.rank, -(-total // size), world.communicator.size):
            batch = world.feed.test_batch(shard * size, min((shard + 1) * size, total))
            yield shard, tally(_predict(world, weights, batch), world.feed.num_classes)

    return _measure(world, tallies())


def measure_smashed_error(world: World, weights: torch.Tensor) -> Metrics:
    """Collective. Return the relative error of the smashed data on the global test set, if any is compressed."""
    size, total, sums = world.config.evaluation.shard, world.feed.num_test, {}
    if not (world.config.compression.is_on and total):
        return {}
    for shard in range(world.communicator.rank, -(-total // size), world.communicator.size):
        inputs, _ = world.feed.test_batch(shard * size, min((shard + 1) * size, total))
        sums[shard] = squares(world.model, weights, torch.from_numpy(inputs).to(world.device))
    gathered = sorted(pair for part in world.communicator.gather_all(sums) for pair in part.items())
    return {"smashed-error": relative_error(np.sum([values for _, values in gathered], axis=0))}


def measure_own(
    world: World, weights: torch.Tensor, clients: NDArray[np.int64], parts: VectorTable | None = None
) -> tuple[Metrics, Rows]:
    """Collective. Return the metrics of all test samples of some clients, and those of each client that has some.

    Args:
        world: The run.
        weights: The model, float32 [params].
        clients: Ids, ascending, int64 [clients].
        parts: The personal parts of the clients whose home this rank is; None where nothing is personal.
    """
    counts = world.population.test_counts(clients)
    return _measure_clients(world, weights, clients, counts, world.feed.clients_test, parts)


def measure_held_out(world: World, weights: torch.Tensor) -> tuple[Metrics, Rows]:
    """Collective. Return the metrics of all samples of the clients that never train, and those of each."""
    clients, counts = world.feed.held_out_clients()
    return _measure_clients(world, weights, clients, counts, world.feed.held_out_test)


def _measure_clients(
    world: World,
    weights: torch.Tensor,
    clients: NDArray[np.int64],
    counts: NDArray[np.int64],
    fetch: Fetch,
    parts: VectorTable | None = None,
) -> tuple[Metrics, Rows]:
    clients, counts = clients[counts > 0], counts[counts > 0]
    # Neighbours are tested together, about a shard of samples at a time, whatever the number of ranks.
    block_of_client = (np.cumsum(counts) - counts) // world.config.evaluation.shard
    edges = np.append(np.flatnonzero(np.diff(block_of_client, prepend=-1)), len(clients))
    rank, ranks = world.communicator.rank, world.communicator.size
    blocks = [clients[start:stop] for start, stop in itertools.pairwise(edges)]
    hosted = [np.concatenate([clients[:0], *blocks[rank::ranks]]) for rank in range(ranks)]
    own = None if parts is None else own_weights(world, weights, parts, hosted)
    mine: list[Rows] = []

    def tallies() -> Iterator[tuple[int, Tally]]:
        for block in range(rank, len(blocks), ranks):
            members = blocks[block]
            if own is None:
                found = _predict(world, weights, fetch(members))
            else:
                alone = np.split(members, len(members))
                found = join_predictions(_predict(world, own(int(each[0])), fetch(each)) for each in alone)
            mine.append(
                measure_clients(found, members, counts[edges[block] : edges[block + 1]], world.feed.target_scale)
            )
            yield block, tally(found, world.feed.num_classes)

    metrics = _measure(world, tallies())
    rows = [part for part in world.communicator.gather_all(join_rows(mine) if mine else {}) if part]
    return metrics, merge_rows(rows, "client") if rows else {}


def _measure(world: World, tallies: Iterator[tuple[int, Tally]]) -> Metrics:
    """Collective. Return the metrics of numbered tallies, each made by one rank; none where there is no tally."""
    counts, rest = np.zeros((3, world.feed.num_classes), np.int64), dict[int, Tally]()
    nothing = np.zeros((3, 0), np.int64)
    for number, each in tallies:
        # Counts are whole numbers: added up here, a large vocabulary's do not travel once a shard.
        counts += each.counts
        rest[number] = Tally(count=each.count, loss=each.loss, counts=nothing, sums=each.sums)
    gathered = world.communicator.gather_all((counts, rest))
    in_order = sorted((pair for _, part in gathered for pair in part.items()), key=lambda pair: pair[0])
    if not in_order:
        return {}
    total = add_up(each for _, each in in_order)
    counts = np.sum([part for part, _ in gathered], axis=0)
    whole = Tally(count=total.count, loss=total.loss, counts=counts, sums=total.sums)
    sequences = not world.feed.dataset.has_numbers and bool(world.feed.target_shape)
    return measure(whole, scale=world.feed.target_scale, sequences=sequences)


def _predict(world: World, weights: torch.Tensor, batch: tuple[Samples, Targets]) -> Predictions:
    inputs, targets = (torch.from_numpy(values).to(world.device) for values in batch)
    return predict(world.model, weights, inputs, targets, world.config.training.loss)
