"""What every partition is, the registry that they are entered in, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.population import Population, RowPopulation, hold_out
from hpcfsl.errors import ConfigError
from hpcfsl.settings import Registry, Settings


class Partition(Settings, ABC):
    """Settings of one way to divide data; a subclass adds `rule: Literal["its-name"] = "its-name"`."""

    test_fraction: float = Field(0.2, ge=0.0, lt=1.0)
    """Share of each client's samples that is held out for testing, rounded down; one sample is always trained on."""

    @abstractmethod
    def divide(self, dataset: Dataset, seed: int) -> Population:
        """Return the clients of a run: the same ones for the same settings, data and seed, on any machine.

        Raises:
            ConfigError: The data cannot be divided like that; every client needs at least one training sample.
        """

    def build(
        self, dataset: Dataset, client_of_row: NDArray[np.int64], seed: int, owners: NDArray[np.int64]
    ) -> RowPopulation:
        """Return the population in which row i belongs to `client_of_row[i]`, with each client's test rows held out.

        Args:
            dataset: The data that is divided.
            client_of_row: Client of each row [n].
            seed: The run's seed.
            owners: Natural client of each client [clients], -1 for none.

        Raises:
            ConfigError: Nothing is left to test on: neither held-out rows nor a test set of the source.
        """
        population = hold_out(client_of_row, test_fraction=self.test_fraction, seed=seed, owners=owners)
        if dataset.test_inputs is None and not population.test.size:
            raise self.no_test_rows()
        return population

    def no_test_rows(self) -> ConfigError:
        """Return the error for a run that would have nothing to test on."""
        fix = "holds out no sample and the data has no test set; raise it or give clients more samples"
        return ConfigError("partition.test_fraction", self.test_fraction, fix)


def no_owners(num_clients: int) -> NDArray[np.int64]:
    """Return owners for clients that are no part of a natural one: -1 for each."""
    return np.full(num_clients, -1, np.int64)


def check_enough_rows(key: str, value: object, needed: int, dataset: Dataset) -> None:
    """Raise a ConfigError for the setting `partition.<key>` where the data has fewer than `needed` rows."""
    if needed > len(dataset):
        fix = f"needs {needed} samples, {dataset.name} has {len(dataset)}; lower it, or use partition.rule = 'drawing'"
        raise ConfigError(f"partition.{key}", value, fix)


def check_one_class(rule: str, dataset: Dataset) -> None:
    """Raise a ConfigError where samples have no one class: numbers to predict, or a class at each position."""
    if dataset.has_numbers:
        fix = (
            f"divides by class, but the targets of {dataset.name} are numbers; choose natural, iid, quantity or drawing"
        )
        raise ConfigError("partition.rule", rule, fix)
    if dataset.target_shape:
        fix = f"divides by class, but {dataset.name} has one at each position; choose natural, iid, quantity or drawing"
        raise ConfigError("partition.rule", rule, fix)


def deal(sizes: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the client of each row [n] when client i gets the next `sizes[i]` rows of `order`."""
    client_of_row = np.empty(len(order), np.int64)
    client_of_row[order] = np.repeat(np.arange(len(sizes)), sizes)
    return client_of_row


def even_sizes(total: int, parts: int) -> NDArray[np.int64]:
    """Return `parts` whole numbers that add up to `total` and differ by at most one, int64 [parts]."""
    return np.diff(np.arange(parts + 1, dtype=np.int64) * total // parts)


def proportional_sizes(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Return whole numbers that add up to `total`, each within one of its weight's share, int64 [weights]."""
    ends = np.cumsum(weights)
    # The small term keeps equal weights equal where a share falls on a whole number but rounds to just below it.
    cuts = np.floor(ends[:-1] / ends[-1] * total + 1e-9).astype(np.int64)
    sizes: NDArray[np.int64] = np.diff(np.minimum(cuts, total), prepend=0, append=total)
    return sizes


partitions: Registry[Partition] = Registry("partition", default="natural")
