"""Counts of a data set and of the clients that a configuration divides it into.

Layer 4. Of very many clients only some are looked at, evenly spaced by their ids. Clients that are held out of training
come after the others, as they are numbered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.config import Config
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.population import Population
from hpcfsl.describe.kinds import Kinds, means
from hpcfsl.targets import load_data, note_on_targets
from hpcfsl.world import make_feed

_MOST_CLIENTS = 10_000
_MOST_COUNTS = 20_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A data set and its clients in numbers.

    Attributes:
        dataset: The data.
        note: What was made of targets whose type says something else, in a sentence; "" for most.
        rule: How it is divided.
        num_clients: Clients of the run that train.
        num_held_out: Clients that are held out of training.
        train_samples: Training samples of all clients together.
        largest: Training samples of the largest client.
        test_samples: Samples of the global test set.
        own_test_set: Whether the test set is the source's own; else it is what the clients held out.
        clients: Ids of the clients that are looked at, int64 [k], ascending.
        owners: Natural client of each, -1 for none [k].
        trains: Whether each trains or is held out, bool [k].
        samples: Training samples of each, or, of a client that is held out, samples that it is tested on [k].
        held_out: Test samples of each [k].
        kinds: What is counted: the name of each class, or each range of numbers.
        counts: Training samples of each client and kind, int64 [k, kinds]; with a class at each position, positions.
        targets: Mean and standard deviation of the numbers of each client's samples, float64 [k, 2]; None for classes.
    """

    dataset: Dataset
    note: str
    rule: str
    num_clients: int
    num_held_out: int
    train_samples: int
    largest: int
    test_samples: int
    own_test_set: bool
    clients: NDArray[np.int64]
    owners: NDArray[np.int64]
    trains: NDArray[np.bool_]
    samples: NDArray[np.int64]
    held_out: NDArray[np.int64]
    kinds: tuple[str, ...]
    counts: NDArray[np.int64]
    targets: NDArray[np.float64] | None

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each kind in all the training clients that are looked at, [kinds]."""
        total = self.counts[self.trains].sum(axis=0)
        return np.asarray(total / total.sum())

    @property
    def skew(self) -> NDArray[np.float64]:
        """How far each client's classes or numbers are from those of all, [k]: the total variation distance.

        Half the sum of the absolute differences of shares: 0 where they are alike, near 1 where a client has only
        kinds that are rare elsewhere.
        """
        own = self.counts / self.counts.sum(axis=1, keepdims=True)
        return np.asarray(np.abs(own - self.shares).sum(axis=1) / 2)


def describe(config: Config) -> Description:
    """Return the numbers of a configuration's data; loads the data, writes nothing.

    Raises:
        UserError: The data cannot be loaded, or not be divided as the configuration says.
    """
    dataset = load_data(config, keep=False)
    feed = make_feed(config, dataset, standardise=False)
    training, apart = feed.population, feed.held_out
    kinds = Kinds(dataset, training.train_pool())
    most = min(_MOST_CLIENTS, max(1, _MOST_COUNTS // len(kinds.names)))
    parts = [_look_at(dataset, population, kinds, most) for population in (training, apart) if population is not None]
    total, largest = training.total_and_largest()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    trains = np.arange(len(joined["clients"])) < len(parts[0]["clients"])
    numbers = joined.pop("targets")
    joined["clients"] = np.where(trains, joined["clients"], joined["clients"] + training.num_clients)
    return Description(
        dataset=dataset,
        note=note_on_targets(config, dataset),
        rule=config.partition.model_dump()["rule"],
        num_clients=training.num_clients,
        num_held_out=0 if apart is None else apart.num_clients,
        train_samples=total,
        largest=largest,
        test_samples=feed.num_test,
        own_test_set=dataset.test_inputs is not None,
        trains=trains,
        kinds=kinds.names,
        targets=numbers if dataset.has_numbers else None,
        **joined,
    )


def choose_evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the numbers 0 .. count - 1, evenly spaced, int64, ascending."""
    chosen = min(count, most)
    return np.arange(chosen, dtype=np.int64) * count // chosen


def _look_at(dataset: Dataset, population: Population, kinds: Kinds, most: int) -> dict[str, NDArray[Any]]:
    """Return what a description says of at most `most` clients of a population, an array [k, ...] a name."""
    clients = choose_evenly(population.num_clients, most)
    counts = np.zeros((len(clients), len(kinds.names)), np.int64)
    targets = np.zeros((len(clients), 2))
    for place, client in enumerate(clients):
        found = dataset.targets[population.train_rows(int(client))]
        counts[place] = kinds.count(found)
        if dataset.has_numbers:
            targets[place] = means(found).mean(), means(found).std()
    return {
        "clients": clients,
        "owners": np.array([population.owner(int(client)) for client in clients]),
        "samples": population.train_counts(clients),
        "held_out": population.test_counts(clients),
        "counts": counts,
        "targets": targets,
    }
