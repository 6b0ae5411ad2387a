"""Natural clients: whoever produced the data (writer, speaker, device) is a client.

The differences between clients are the real ones, so choose this wherever the data has owners. Where there are too few
owners, `parts` cuts each into several clients that share the owner's style.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import Partition, partitions
from hpcfsl.data.population import RowPopulation, starts
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_permutation


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
        client_of_row = self._deal(dataset.owners, counts, seed)
        return self.build(dataset, client_of_row, seed, np.repeat(np.arange(len(counts)), self.parts))

    def _deal(self, owners: NDArray[np.int64], counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        shuffled = random_permutation(seed, Purpose.PARTITION, round=0, entity=0, size=len(owners))
        grouped = shuffled[np.argsort(owners[shuffled], kind="stable")]
        place_in_owner = np.arange(len(owners)) - np.repeat(starts(counts)[:-1], counts)
        client_of_row = np.empty(len(owners), np.int64)
        client_of_row[grouped] = owners[grouped] * self.parts + place_in_owner * self.parts // np.repeat(counts, counts)
        return client_of_row
