"""Drawn clients: each draws its samples with replacement, when asked, by its number alone.

For populations larger than the data: 20 million clients take no time to make and no memory to hold, because a client's
rows are computed from (seed, client) by the counter-based generator. Choose it to measure throughput or sampling at
scale. Clients share rows with each other, but none trains on a row that any client is tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import Partition, partitions
from hpcfsl.data.population import Rows, held_out_counts
from hpcfsl.seeding import Purpose, random_permutation, random_words

_TRAIN_LANE, _TEST_LANE = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPopulation:
    """A population whose clients draw rows from two pools that share none; see `population.Population`.

    Attributes:
        num_clients: Number of clients, below 2**32.
        num_train: Training samples each client draws.
        num_test: Test samples each client draws.
        train_rows_pool: Rows drawn from for training, ascending.
        test_rows_pool: Rows drawn from for testing, ascending.
        test_rows_of_test_set: Whether the test pool is the source's own test set.
        seed: The run's seed.
    """

    num_clients: int
    num_train: int
    num_test: int
    train_rows_pool: Rows
    test_rows_pool: Rows
    test_rows_of_test_set: bool
    seed: int

    def train_rows(self, client: int) -> Rows:
        """Return the rows one client trains on, in drawing order, int64 [num_train]."""
        return self.train_rows_of(np.array([client], np.int64))

    def test_rows(self, client: int) -> Rows:
        """Return the rows one client is tested on, in drawing order, int64 [num_test]."""
        return self._draw(np.array([client], np.int64), self.test_rows_pool, self.num_test, _TEST_LANE)

    def train_rows_of(self, clients: NDArray[np.int64]) -> Rows:
        """Return `train_rows` of many clients end to end."""
        return self._draw(clients, self.train_rows_pool, self.num_train, _TRAIN_LANE)

    def train_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of training samples of each client, int64 [clients]."""
        return np.full(len(clients), self.num_train, np.int64)

    def test_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of test samples of each client, int64 [clients]."""
        return np.full(len(clients), self.num_test, np.int64)

    def total_and_largest(self) -> tuple[int, int]:
        """Return the number of training samples of all clients together and of any one."""
        return self.num_clients * self.num_train, self.num_train

    def owner(self, client: int) -> int:
        """Return -1: a drawn client is part of no natural one."""
        return -1

    def train_pool(self) -> Rows:
        """Return all rows that any client may train on, ascending."""
        return self.train_rows_pool

    def test_pool(self) -> Rows:
        """Return all rows that any client may be tested on, ascending."""
        return self.test_rows_pool

    def _draw(self, clients: NDArray[np.int64], pool: Rows, count: int, lane: int) -> Rows:
        words = random_words(self.seed, Purpose.DRAWING, round=0, entity=clients, count=count, lane=lane)
        # Multiply and shift maps a 32-bit word to a place in the pool in whole numbers; its bias is size / 2**32.
        rows: Rows = pool[(words * len(pool)) >> 32].reshape(-1)
        return rows


@partitions.register
class Drawing(Partition):
    """Clients that draw their samples with replacement; as many of them as wanted."""

    rule: Literal["drawing"] = "drawing"
    """Each client draws samples with replacement, keyed by its number."""

    clients: int = Field(1000, ge=1, le=2**31 - 1)
    """Number of clients; may exceed the number of samples."""

    samples: int = Field(20, ge=1, le=1_000_000)
    """Training samples of each client; test samples come on top, so that they are `test_fraction` of all it has."""

    def divide(self, dataset: Dataset, seed: int) -> DrawnPopulation:
        """Return `clients` clients; without a test set, `test_fraction` of all rows are held out from training."""
        train_pool, test_pool = self._pools(dataset, seed)
        if not test_pool.size:
            raise self.no_test_rows()
        return DrawnPopulation(
            num_clients=self.clients,
            num_train=self.samples,
            num_test=int(self.samples * self.test_fraction / (1.0 - self.test_fraction) + 1e-9),
            train_rows_pool=train_pool,
            test_rows_pool=test_pool,
            test_rows_of_test_set=dataset.test_inputs is not None,
            seed=seed,
        )

    def _pools(self, dataset: Dataset, seed: int) -> tuple[Rows, Rows]:
        if dataset.test_inputs is not None:
            return np.arange(len(dataset)), np.arange(len(dataset.test_inputs))
        shuffled = random_permutation(seed, Purpose.HOLDOUT, round=0, entity=0, size=len(dataset))
        num_test = int(held_out_counts(np.array([len(dataset)]), self.test_fraction)[0])
        return np.sort(shuffled[num_test:]), np.sort(shuffled[:num_test])
