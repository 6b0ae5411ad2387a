"""The clients of a run and which rows of the data set each one holds.

Layer 1. A population answers by client id and never lists all clients, so it may have 20 million of them. Divided data
(each row belongs to one client) is `RowPopulation`; `partitions.drawing` has one that computes rows when asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hpcfsl.seeding import Purpose, random_permutation

Rows = NDArray[np.int64]


class Population(Protocol):
    """What training and evaluation ask about clients. Every answer is a function of the settings and the seed alone."""

    @property
    def num_clients(self) -> int:
        """Number of clients; ids are 0 .. num_clients - 1."""

    @property
    def test_rows_of_test_set(self) -> bool:
        """True where `test_rows` are rows of the source's test set, False where of its training samples."""

    def train_rows(self, client: int) -> Rows:
        """Return the rows one client trains on, int64 [samples], at least one."""

    def test_rows(self, client: int) -> Rows:
        """Return the rows one client is tested on, int64 [samples], perhaps none; never one any client trains on."""

    def train_rows_of(self, clients: NDArray[np.int64]) -> Rows:
        """Return `train_rows` of many clients end to end, int64 [sum of train_counts(clients)]; fast."""

    def train_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of training samples of each client, int64 [clients]."""

    def test_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of test samples of each client, int64 [clients]."""

    def total_and_largest(self) -> tuple[int, int]:
        """Return the number of training samples of all clients together and of the largest one; fast."""

    def owner(self, client: int) -> int:
        """Return the natural client that this one is a part of; -1 where there is none."""

    def train_pool(self) -> Rows:
        """Return all rows that any client may train on, ascending."""

    def test_pool(self) -> Rows:
        """Return all rows that any client may be tested on, ascending."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPopulation:
    """A population whose clients share no row.

    Attributes:
        train: Training rows of client 0, then of client 1, ..., each client's ascending.
        train_starts: Where each client's rows begin in `train`, and the end [clients + 1].
        test: Test rows in the same layout.
        test_starts: Where each client's rows begin in `test`, and the end [clients + 1].
        owners: Natural client of each client [clients], -1 for none.
    """

    train: Rows
    train_starts: NDArray[np.int64]
    test: Rows
    test_starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    test_rows_of_test_set: bool = False

    @property
    def num_clients(self) -> int:
        """Number of clients."""
        return len(self.owners)

    def train_rows(self, client: int) -> Rows:
        """Return the rows one client trains on, ascending, int64 [samples]."""
        return self.train[self.train_starts[client] : self.train_starts[client + 1]]

    def test_rows(self, client: int) -> Rows:
        """Return the rows one client is tested on, ascending, int64 [samples]."""
        return self.test[self.test_starts[client] : self.test_starts[client + 1]]

    def train_rows_of(self, clients: NDArray[np.int64]) -> Rows:
        """Return `train_rows` of many clients end to end."""
        counts = self.train_counts(clients)
        shifts = self.train_starts[clients] - (np.cumsum(counts) - counts)
        rows: Rows = self.train[np.repeat(shifts, counts) + np.arange(counts.sum())]
        return rows

    def train_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of training samples of each client, int64 [clients]."""
        return self.train_starts[clients + 1] - self.train_starts[clients]

    def test_counts(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of test samples of each client, int64 [clients]."""
        return self.test_starts[clients + 1] - self.test_starts[clients]

    def total_and_largest(self) -> tuple[int, int]:
        """Return the number of training samples of all clients together and of the largest one."""
        return len(self.train), int(np.diff(self.train_starts).max())

    def owner(self, client: int) -> int:
        """Return the natural client that this one is a part of; -1 where there is none."""
        return int(self.owners[client])

    def train_pool(self) -> Rows:
        """Return all training rows, ascending."""
        return np.sort(self.train)

    def test_pool(self) -> Rows:
        """Return all test rows, ascending."""
        return np.sort(self.test)


def hold_out(
    client_of_row: NDArray[np.int64], *, test_fraction: float, seed: int, owners: NDArray[np.int64]
) -> RowPopulation:
    """Divide every client's rows into training and test rows, at random but keyed by the seed.

    A client of n rows gives up floor(n * test_fraction) of them for testing and always keeps one to train on.

    Args:
        client_of_row: Client of each row [n]; every client has at least one row.
        test_fraction: Share of each client's rows that is held out, in [0, 1).
        seed: The run's seed.
        owners: Natural client of each client [clients], -1 for none.
    """
    counts = np.bincount(client_of_row, minlength=len(owners))
    assert len(counts) == len(owners)
    assert counts.min() >= 1
    num_test = held_out_counts(counts, test_fraction)
    by_client = np.argsort(client_of_row, kind="stable")
    in_test = _mark_test_rows(client_of_row, counts, num_test, seed)[by_client]
    return RowPopulation(
        train=_frozen(by_client[~in_test]),
        train_starts=_frozen(starts(counts - num_test)),
        test=_frozen(by_client[in_test]),
        test_starts=_frozen(starts(num_test)),
        owners=_frozen(owners),
    )


def group_rows(rows: Rows, client_of_row: NDArray[np.int64], num_clients: int) -> tuple[Rows, NDArray[np.int64]]:
    """Return ascending rows [n] by client, and where those of each begin, as `RowPopulation` keeps them."""
    by_client = np.argsort(client_of_row, kind="stable")
    return _frozen(rows[by_client]), _frozen(starts(np.bincount(client_of_row, minlength=num_clients)))


def held_out_counts(counts: NDArray[np.int64], test_fraction: float) -> NDArray[np.int64]:
    """Return how many of `counts` rows are held out: floor(count * test_fraction), at most count - 1."""
    # The small term makes 0.29 of 100 be 29, though 100 * 0.29 is 28.999999999999996 in float64.
    held_out: NDArray[np.int64] = np.floor(counts * test_fraction + 1e-9).astype(np.int64)
    return np.minimum(held_out, counts - 1)


def starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where runs of the given lengths begin, and the end of the last, int64 [len(counts) + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _mark_test_rows(
    client_of_row: NDArray[np.int64], counts: NDArray[np.int64], num_test: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    # One shuffle of all rows, then grouped by client: a shuffle for each client would cost 0.1 ms a client.
    shuffled = random_permutation(seed, Purpose.HOLDOUT, round=0, entity=0, size=len(client_of_row))
    grouped = shuffled[np.argsort(client_of_row[shuffled], kind="stable")]
    place_in_client = np.arange(len(grouped)) - np.repeat(starts(counts)[:-1], counts)
    marks = np.empty(len(grouped), np.bool_)
    marks[grouped] = place_in_client < np.repeat(num_test, counts)
    return marks


def _frozen(array: NDArray[np.int64]) -> NDArray[np.int64]:
    # Clients are handed views of these arrays; writing to one would change another client's data.
    array.setflags(write=False)
    return array
