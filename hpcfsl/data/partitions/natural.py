"""Natural clients: whoever produced the data (writer, speaker, device) is a client.

The differences between clients are the real ones, so choose this wherever the data has owners. Where there are too few
owners, `parts` cuts each into several clients that share the owner's style.

Where the data has a test set and says whose its samples are, clients train on all their samples and are tested on their
owner's part of the test set: nothing is held out, and `test_fraction` has no say. Owners with test samples alone are
part of the global test set only.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import Partition, partitions
from hpcfsl.data.population import RowPopulation, group_rows, starts
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_permutation

_TRAIN, _TEST = 0, 1


@partitions.register
class Natural(Partition):
    """One client, or `parts` clients, for each owner in the data."""

    rule: Literal["natural"] = "natural"
    """The owners in the data are the clients."""

    parts: int = Field(1, ge=1, le=1_000_000)
    """Clients made of each owner by dealing out its samples evenly at random; owner 2 of 3 parts is clients 6 to 8."""

    def divide(self, dataset: Dataset, seed: int) -> RowPopulation:
        """Return `parts` clients for each owner; see `Partition.divide`."""
        if dataset.owners is None:
            fix = f"the data set {dataset.name} has no natural clients; choose iid, dirichlet, shards or quantity"
            raise ConfigError("partition.rule", self.rule, fix)
        counts = np.bincount(dataset.owners)
        if self.parts > counts.min():
            fix = f"the smallest owner in {dataset.name} has {counts.min()} samples; lower it to that or less"
            raise ConfigError("partition.parts", self.parts, fix)
        client_of_row = self._deal(dataset.owners, seed, _TRAIN)
        of_client = np.repeat(np.arange(len(counts)), self.parts)
        if dataset.test_owners is None:
            return self.build(dataset, client_of_row, seed, of_client)
        return self._with_test_set(dataset.test_owners, client_of_row, seed, of_client)

    def _with_test_set(
        self, test_owners: NDArray[np.int64], client_of_row: NDArray[np.int64], seed: int, of_client: NDArray[np.int64]
    ) -> RowPopulation:
        """Return clients that train on all their samples, and are tested on the test samples of their owners."""
        client_of_test_row = self._deal(test_owners, seed, _TEST)
        tested = np.flatnonzero(client_of_test_row < len(of_client))  # the others' owners have nothing to train on
        train, train_starts = group_rows(np.arange(len(client_of_row)), client_of_row, len(of_client))
        test, test_starts = group_rows(tested, client_of_test_row[tested], len(of_client))
        return RowPopulation(
            train=train,
            train_starts=train_starts,
            test=test,
            test_starts=test_starts,
            owners=of_client,
            test_rows_of_test_set=True,
        )

    def _deal(self, owners: NDArray[np.int64], seed: int, which: int) -> NDArray[np.int64]:
        """Return the client of each row [n]: `parts` of them share the rows of each owner evenly."""
        counts = np.bincount(owners)
        shuffled = random_permutation(seed, Purpose.PARTITION, round=0, entity=which, size=len(owners))
        grouped = shuffled[np.argsort(owners[shuffled], kind="stable")]
        place_in_owner = np.arange(len(owners)) - np.repeat(starts(counts)[:-1], counts)
        client_of_row = np.empty(len(owners), np.int64)
        client_of_row[grouped] = owners[grouped] * self.parts + place_in_owner * self.parts // np.repeat(counts, counts)
        return client_of_row
