"""Clients that are held out: they never train, and the model is tested on them, as on people it has not met.

Layer 1. They are taken from the population before anything else sees it: training clients are numbered anew,
0 .. n - 1, in the order that they had, and held-out ones get the numbers after them. No sample of theirs is trained on,
counted in a mean or put into the global test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.participation import sample_ids
from hpcfsl.data.population import Population, RowPopulation, starts
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose


def divide_off(
    population: Population, dataset: Dataset, *, number: int, owners: Sequence[int], seed: int
) -> tuple[Population, RowPopulation | None]:
    """Return the clients that train, and those that are held out; None where nobody is.

    All samples of a held-out client are there to test on: its `train_rows` are rows of the data set's training samples,
    its `test_rows` those of the source's own test set, as far as that says whose they are.

    Args:
        population: All clients.
        dataset: Their data.
        number: How many clients to hold out, drawn once, keyed by the seed; 0 for those of `owners`.
        owners: Natural clients of which to hold out every client.
        seed: The run's seed.

    Raises:
        ConfigError: Nobody is left to train, an owner does not exist, or clients share samples.
    """
    if not number and not owners:
        return population, None
    key, value = ("held_out_owners", list(owners)) if owners else ("held_out_clients", number)
    count, (total, _) = population.num_clients, population.total_and_largest()
    if total > len(dataset):
        fix = "clients that draw their samples share them with others; use a partition that divides the data"
        raise ConfigError(f"evaluation.{key}", value, fix)
    held = _of_owners(population, owners) if owners else None
    if held is None and number < count:
        held = sample_ids(count, number, seed, 0, Purpose.HELD_OUT_CLIENTS)
    if held is None or len(held) >= count:
        raise ConfigError(f"evaluation.{key}", value, f"there are only {count} clients; leave some to train")
    kept = np.setdiff1d(np.arange(count), held, assume_unique=True)
    training, apart = _take(population, kept), _only_tested(_take(population, held))
    if np.isin(training.train, apart.train).any():
        raise ConfigError(f"evaluation.{key}", value, "clients of this partition share samples; use another one")
    return training, apart


def _of_owners(population: Population, owners: Sequence[int]) -> NDArray[np.int64]:
    owner_of_client = np.array([population.owner(client) for client in range(population.num_clients)])
    for owner in owners:
        if owner not in owner_of_client:
            known = np.unique(owner_of_client[owner_of_client >= 0])
            fix = "the clients of this partition have no owners; use 'natural', or held_out_clients"
            if len(known):
                fix = f"there is no owner {owner}; owners of clients are {known[0]} .. {known[-1]}"
            raise ConfigError("evaluation.held_out_owners", list(owners), fix)
    return np.flatnonzero(np.isin(owner_of_client, np.array(owners)))


def _take(population: Population, clients: NDArray[np.int64]) -> RowPopulation:
    """Return some clients as a population of their own, numbered in the order given."""
    return RowPopulation(
        train=population.train_rows_of(clients),
        train_starts=starts(population.train_counts(clients)),
        test=np.concatenate([population.test_rows(int(client)) for client in clients]),
        test_starts=starts(population.test_counts(clients)),
        owners=np.array([population.owner(int(client)) for client in clients], np.int64),
        test_rows_of_test_set=population.test_rows_of_test_set,
    )


def _only_tested(held: RowPopulation) -> RowPopulation:
    """Return clients with the samples they would have been tested on among those they would have trained on."""
    if held.test_rows_of_test_set:
        return held
    parts = [np.sort(np.append(held.train_rows(client), held.test_rows(client))) for client in range(held.num_clients)]
    counts = np.array([len(part) for part in parts], np.int64)
    return replace(
        held,
        train=np.concatenate(parts),
        train_starts=starts(counts),
        test=np.zeros(0, np.int64),
        test_starts=np.zeros(held.num_clients + 1, np.int64),
        test_rows_of_test_set=True,
    )
