"""Label skew by shards: the samples are sorted by class and cut into equal pieces; each client gets a few at random.

Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS 2017),
section 3, which gave each of 100 clients 2 shards. Choose it to repeat experiments that used it; `dirichlet` sets the
strength of the skew more finely.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import (
    Partition,
    check_enough_rows,
    check_one_class,
    deal,
    even_sizes,
    no_owners,
    partitions,
)
from hpcfsl.data.population import RowPopulation
from hpcfsl.seeding import Purpose, random_permutation


@partitions.register
class Shards(Partition):
    """Clients of equal size that hold few classes each: about `shards_per_client` of them."""

    rule: Literal["shards"] = "shards"
    """Samples are sorted by class and cut into shards, which are dealt out at random."""

    clients: int = Field(10, ge=1, le=2**31 - 1)
    """Number of clients."""

    shards_per_client: int = Field(2, ge=1, le=1_000_000)
    """Shards that each client holds."""

    def divide(self, dataset: Dataset, seed: int) -> RowPopulation:
        """Return `clients` clients; see `Partition.divide`."""
        check_one_class(self.rule, dataset)
        num_shards = self.clients * self.shards_per_client
        check_enough_rows("clients", self.clients, self.clients, dataset)
        check_enough_rows("shards_per_client", self.shards_per_client, num_shards, dataset)
        # Shuffled within a class, so that a shard does not follow whoever wrote neighbouring samples.
        shuffled = random_permutation(seed, Purpose.PARTITION, round=0, entity=0, size=len(dataset))
        by_class = shuffled[np.argsort(dataset.targets[shuffled], kind="stable")]
        shard_of_row = deal(even_sizes(len(dataset), num_shards), by_class)
        client_of_shard = random_permutation(seed, Purpose.PARTITION, round=0, entity=1, size=num_shards) % self.clients
        return self.build(dataset, client_of_shard[shard_of_row], seed, no_owners(self.clients))
