"""Quantity skew: clients hold very different numbers of samples of one distribution.

Choose it to see what sample counts alone do to weighting, scores and load balance. `power-law` has a few huge clients
and a long tail, as in user data; `lognormal` has most clients near a typical size, as in Reddi et al., "Adaptive
federated optimization" (ICLR 2021), and its predecessors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import Partition, check_enough_rows, deal, no_owners, partitions, proportional_sizes
from hpcfsl.data.population import RowPopulation
from hpcfsl.seeding import Purpose, random_normal, random_permutation


@partitions.register
class Quantity(Partition):
    """Clients whose samples come from one distribution but differ in number."""

    rule: Literal["quantity"] = "quantity"
    """Samples are shuffled and dealt out in very different numbers."""

    clients: int = Field(10, ge=1, le=2**31 - 1)
    """Number of clients; which of them are large is random."""

    law: Literal["power-law", "lognormal"] = "power-law"
    """How sizes are spread: the k-th largest is proportional to k ** -skew, or sizes to exp(skew * normal)."""

    skew: float = Field(1.0, ge=0.0, le=5.0)
    """Strength of the skew; 0 gives equal sizes."""

    min_samples: int = Field(1, ge=1)
    """Samples that every client gets before the rest is divided by the law."""

    def divide(self, dataset: Dataset, seed: int) -> RowPopulation:
        """Return `clients` clients; see `Partition.divide`."""
        check_enough_rows("clients", self.clients, self.clients, dataset)
        check_enough_rows("min_samples", self.min_samples, self.clients * self.min_samples, dataset)
        order = random_permutation(seed, Purpose.PARTITION, round=0, entity=0, size=len(dataset))
        rest = len(dataset) - self.clients * self.min_samples
        sizes = self.min_samples + proportional_sizes(self._weights(seed), rest)
        return self.build(dataset, deal(sizes, order), seed, no_owners(self.clients))

    def _weights(self, seed: int) -> NDArray[np.float64]:
        if self.law == "lognormal":
            normal = random_normal(seed, Purpose.PARTITION, round=0, entity=1, count=self.clients)
            return np.exp(self.skew * normal)
        places = 1 + random_permutation(seed, Purpose.PARTITION, round=0, entity=1, size=self.clients)
        return np.power(places, -self.skew, dtype=np.float64)
