"""Counts of a data set and of the clients that a configuration divides it into.

Layer 4. Of very many clients only some are looked at, evenly spaced by their ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcfsl.config import Config
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.population import Population

_MOST_CLIENTS = 10_000
_MOST_COUNTS = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A data set and its clients in numbers.

    Attributes:
        dataset: The data.
        rule: How it is divided.
        num_clients: Clients of the run.
        train_samples: Training samples of all clients together.
        largest: Training samples of the largest client.
        test_samples: Samples of the global test set.
        own_test_set: Whether the test set is the source's own; else it is what the clients held out.
        clients: Ids of the clients that are looked at, int64 [k], ascending.
        owners: Natural client of each, -1 for none [k].
        samples: Training samples of each [k].
        held_out: Test samples of each [k].
        counts: Classes in the training samples of each, int64 [k, classes]; with a class at each position, positions.
    """

    dataset: Dataset
    rule: str
    num_clients: int
    train_samples: int
    largest: int
    test_samples: int
    own_test_set: bool
    clients: NDArray[np.int64]
    owners: NDArray[np.int64]
    samples: NDArray[np.int64]
    held_out: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class in all the clients that are looked at, [classes]."""
        total = self.counts.sum(axis=0)
        return np.asarray(total / total.sum())

    @property
    def skew(self) -> NDArray[np.float64]:
        """How far each client's classes are from those of all, [k]: the total variation distance.

        Half the sum of the absolute differences of shares: 0 where they are alike, near 1 where a client has only
        classes that are rare elsewhere.
        """
        own = self.counts / self.counts.sum(axis=1, keepdims=True)
        return np.asarray(np.abs(own - self.shares).sum(axis=1) / 2)


def describe(config: Config) -> Description:
    """Return the numbers of a configuration's data; loads the data, writes nothing.

    Raises:
        UserError: The data cannot be loaded, or not be divided as the configuration says.
    """
    dataset = config.data.load(config.run.seed)
    population = config.partition.divide(dataset, config.run.seed)
    clients = choose_evenly(population.num_clients, min(_MOST_CLIENTS, max(1, _MOST_COUNTS // dataset.num_classes)))
    total, largest = population.total_and_largest()
    return Description(
        dataset=dataset,
        rule=config.partition.model_dump()["rule"],
        num_clients=population.num_clients,
        train_samples=total,
        largest=largest,
        test_samples=len(population.test_pool() if dataset.test_inputs is None else dataset.test_inputs),
        own_test_set=dataset.test_inputs is not None,
        clients=clients,
        owners=np.array([population.owner(int(client)) for client in clients]),
        samples=population.train_counts(clients),
        held_out=population.test_counts(clients),
        counts=_count_classes(dataset, population, clients),
    )


def choose_evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 .. count - 1, evenly spaced, int64, ascending."""
    chosen = min(count, most)
    return np.arange(chosen, dtype=np.int64) * count // chosen


def _count_classes(dataset: Dataset, population: Population, clients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of training samples, or positions, of each class, int64 [clients, classes]."""
    counts = np.zeros((len(clients), dataset.num_classes), np.int64)
    for place, client in enumerate(clients):
        labels = dataset.targets[population.train_rows(int(client))].astype(np.int64, copy=False)
        counts[place] = np.bincount(labels.reshape(-1), minlength=dataset.num_classes)
    return counts
