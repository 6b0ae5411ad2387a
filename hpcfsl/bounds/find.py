"""`hpcfsl bounds`: the ceiling, the floor and the naive baseline of a configuration.

Layer 4. The protocol of the configuration plays no part: parties alone train the whole model, from the initial weights
that a run starts with at any cut. Attackers, faults and the method play none either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hpcfsl.bounds.alone import expected_passes, make_trainer, train_party
from hpcfsl.bounds.measure import TEST, Measures, average, measure_model
from hpcfsl.config import Config
from hpcfsl.data.participation import sample_ids
from hpcfsl.errors import UserError
from hpcfsl.evaluation import evaluated_clients
from hpcfsl.naive import naive_metrics
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.seeding import Purpose
from hpcfsl.training.protocols import protocols
from hpcfsl.world import World, build_world

CENTRALISED, LOCAL_ONLY, NAIVE = "centralised", "local-only", "naive"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        seeds: Number of seeds, from the configuration's `run.seed` on.
        passes: Passes over the samples; 0 for as many as a run makes in the mean.
        clients: Clients that are trained alone; 0 for all.
    """

    seeds: int = 1
    passes: int = 0
    clients: int = 0


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One number.

    Attributes:
        seed: The run's seed.
        bound: `centralised`, `local-only` or `naive`.
        population: `test`, the global test set; `clients`, clients' own test samples; `held-out-clients`, all samples
            of clients that never train.
        metric: Its name in the trace: `accuracy`, `loss`, ...
        value: Its value; of `local-only` the mean over the clients' models.
    """

    seed: int
    bound: str
    population: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What was found.

    Attributes:
        passes: Passes over the samples.
        train_samples: Training samples of all clients together.
        clients: How many clients were trained alone.
        rows: The numbers.
    """

    passes: int
    train_samples: int
    clients: int
    rows: tuple[Bound, ...]


def find_bounds(config: Config, request: Request) -> Bounds:
    """Return the bounds of a configuration; trains, writes nothing. Deterministic.

    Raises:
        UserError: Data or settings do not allow it.
    """
    rows: list[Bound] = []
    for seed in range(config.run.seed, config.run.seed + request.seeds):
        world = _build(config, seed)
        clients, passes = _choose(world, request.clients), request.passes or expected_passes(world)
        for bound, found in (
            (CENTRALISED, _centralised(world, passes)),
            (LOCAL_ONLY, _local_only(world, clients, passes)),
            (NAIVE, {TEST: naive_metrics(world)}),
        ):
            rows += [
                Bound(seed=seed, bound=bound, population=population, metric=metric, value=value)
                for population, metrics in found.items()
                for metric, value in metrics.items()
            ]
    total, _ = world.population.total_and_largest()
    return Bounds(passes=passes, train_samples=total, clients=len(clients), rows=tuple(rows))


def _build(config: Config, seed: int) -> World:
    """Return a world without a cut: bounds are those of the model, whoever would hold which part of it."""
    whole = replace(config, run=config.run.replace(seed=seed), protocol=protocols.parse({"name": "fedavg"}))
    return build_world(whole, SerialCommunicator())


def _centralised(world: World, passes: int) -> Measures:
    """Return the measures of a model trained on the samples of all clients."""
    rows = world.population.train_pool()
    weights = train_party(world, make_trainer(world, len(rows)), rows, client=0, passes=passes)
    return measure_model(world, weights, evaluated_clients(world))


def _local_only(world: World, clients: NDArray[np.int64], passes: int) -> Measures:
    """Return the mean measures of the models of clients that each train alone."""
    trainer = make_trainer(world, world.population.total_and_largest()[1])

    def one(client: int) -> Measures:
        rows = world.population.train_rows(client)
        weights = train_party(world, trainer, rows, client=client, passes=passes)
        return measure_model(world, weights, np.array([client]))

    return average([one(int(client)) for client in clients], world.population.test_counts(clients))


def _choose(world: World, wanted: int) -> NDArray[np.int64]:
    """Return the clients that are trained alone: all, or as many as wanted, drawn once."""
    count = world.population.num_clients
    if wanted > count:
        raise UserError(f"--clients {wanted}: there are only {count} clients")
    if not wanted:
        return np.arange(count)
    return sample_ids(count, wanted, world.config.run.seed, 0, Purpose.EVALUATION)
