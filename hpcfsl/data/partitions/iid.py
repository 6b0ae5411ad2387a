"""Independent, identically distributed clients: the samples are shuffled and dealt out evenly.

Choose it as the baseline without differences between clients; what a defence excludes here, it excludes wrongly.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import Partition, check_enough_rows, deal, even_sizes, no_owners, partitions
from hpcfsl.data.population import RowPopulation
from hpcfsl.seeding import Purpose, random_permutation


@partitions.register
class Iid(Partition):
    """Clients of equal size (within one sample) whose samples come from one distribution."""

    rule: Literal["iid"] = "iid"
    """Samples are shuffled and dealt out evenly."""

    clients: int = Field(10, ge=1, le=2**31 - 1)
    """Number of clients; at most one for each sample."""

    def divide(self, dataset: Dataset, seed: int) -> RowPopulation:
        """Return `clients` clients; see `Partition.divide`."""
        check_enough_rows("clients", self.clients, self.clients, dataset)
        order = random_permutation(seed, Purpose.PARTITION, round=0, entity=0, size=len(dataset))
        client_of_row = deal(even_sizes(len(dataset), self.clients), order)
        return self.build(dataset, client_of_row, seed, no_owners(self.clients))
