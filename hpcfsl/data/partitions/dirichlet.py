"""Label skew: each class is divided over the clients in shares drawn from a Dirichlet distribution.

Follows Yurochkin et al., "Bayesian nonparametric federated learning of neural networks" (ICML 2019), the form that Li
et al., "Federated learning on non-IID data silos" (ICDE 2022), made the standard: shares of class c ~ Dir(alpha) over
clients. Choose it for label skew of a chosen strength on data without owners. Others redraw until every client has
enough samples, which need not end; here a client that has too few takes single samples from the then largest one.

The shares come from numpy's `Generator(Philox)`, seeded from the run's stream: the same on any machine with the same
numpy; numpy may change the stream of `dirichlet` between its releases (NEP 19), so the record of a run names its numpy.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions.base import (
    Partition,
    check_enough_rows,
    check_one_class,
    no_owners,
    partitions,
    proportional_sizes,
)
from hpcfsl.data.population import RowPopulation
from hpcfsl.seeding import Purpose, random_key, random_permutation


@partitions.register
class Dirichlet(Partition):
    """Clients that hold the classes in shares of their own; a small `alpha` leaves a client one or two classes."""

    rule: Literal["dirichlet"] = "dirichlet"
    """Each class is divided over the clients in shares drawn from a Dirichlet distribution."""

    clients: int = Field(10, ge=1, le=2**31 - 1)
    """Number of clients."""

    alpha: float = Field(0.5, ge=1e-3, le=1e6)
    """Concentration: 0.1 is strong label skew, 1 mild, 100 nearly none."""

    min_samples: int = Field(1, ge=1)
    """Samples that every client has at least, training and test together."""

    def divide(self, dataset: Dataset, seed: int) -> RowPopulation:
        """Return `clients` clients; see `Partition.divide`."""
        check_one_class(self.rule, dataset)
        check_enough_rows("clients", self.clients, self.clients, dataset)
        check_enough_rows("min_samples", self.min_samples, self.clients * self.min_samples, dataset)
        shuffled = random_permutation(seed, Purpose.PARTITION, round=0, entity=0, size=len(dataset))
        client_of_row = self._deal_classes(dataset, shuffled, seed)
        top_up(client_of_row, shuffled, num_clients=self.clients, min_samples=self.min_samples)
        return self.build(dataset, client_of_row, seed, no_owners(self.clients))

    def _deal_classes(self, dataset: Dataset, shuffled: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        generator = np.random.Generator(np.random.Philox(key=random_key(seed, Purpose.PARTITION)))
        client_of_row = np.empty(len(dataset), np.int64)
        for label in range(dataset.num_classes):
            rows = shuffled[dataset.targets[shuffled] == label]
            shares = generator.dirichlet(np.full(self.clients, self.alpha))
            client_of_row[rows] = np.repeat(np.arange(self.clients), proportional_sizes(shares, len(rows)))
        return client_of_row


def top_up(client_of_row: NDArray[np.int64], order: NDArray[np.int64], *, num_clients: int, min_samples: int) -> None:
    """Give clients that have fewer than `min_samples` rows single rows of the then largest client, in place.

    Args:
        client_of_row: Client of each row [n].
        order: All rows in the order in which clients give them up [n].
        num_clients: Number of clients; n is at least num_clients * min_samples.
        min_samples: Rows every client has afterwards.
    """
    counts = np.bincount(client_of_row, minlength=num_clients)
    poor = np.flatnonzero(counts < min_samples)
    rows_of_donor: dict[int, list[int]] = {}
    for client in np.repeat(poor, min_samples - counts[poor]):
        # Somebody has more than min_samples as long as anybody has fewer, so a topped-up client never gives.
        donor = int(counts.argmax())
        if donor not in rows_of_donor:
            rows_of_donor[donor] = order[client_of_row[order] == donor].tolist()
        client_of_row[rows_of_donor[donor].pop()] = client
        counts[donor] -= 1
        counts[client] += 1
