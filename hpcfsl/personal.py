"""Personal parts of the model: they stay with their client across rounds (`Protocol.personal_names`).

Layer 4. A client's part starts from the initial model and is what its own training made of it, whatever the aggregator
thinks of its upload; it is never uploaded, so the upload, its score, its bytes and the group's update are of the other
parameters alone. The global model has no such parameters. In their places stands the average over the clients whose
upload arrived in the last round, weighted by samples, so that the model can be tested on the global test set and on
clients without a part of their own; nothing is ever trained from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.aggregate.group import WeightedSum
from hpcfsl.parallel.vectors import HostedVectors, VectorTable
from hpcfsl.training.updates import FirstUpdates
from hpcfsl.world import World

Ids = NDArray[np.int64]


class PersonalParts:
    """The personal parts of the clients that a rank hosts.

    Args:
        world: The run.
        vectors: The parts of those clients that have one.
    """

    def __init__(self, world: World, vectors: HostedVectors) -> None:
        self._world, self._part, self._vectors = world, world.personal, vectors
        self._means: list[tuple[Tensor, int]] = []

    def starts(self, weights: Tensor, clients: Ids) -> Tensor:
        """Return what clients train from: the global model with their own parts, float32 [clients, params].

        Args:
            weights: The global model, float32 [params].
            clients: Ids, int64 [clients].
        """
        rows = weights.expand(len(clients), -1).clone()
        self._part.put(rows, self._parts(clients).to(rows.device))
        return rows

    def keep(self, first: FirstUpdates, starts: Tensor) -> None:
        """Take the parts out of a group's first updates, where zeros remain, and keep them.

        A part with NaN or infinity is not kept: its client goes on from the one before.

        Args:
            first: A group's local training; its updates are changed.
            starts: What the clients trained from, float32 [clients, params].
        """
        parts = (self._part.take(starts) + self._part.take(first.updates)).cpu()
        self._part.put(first.updates, 0.0)
        good = torch.isfinite(parts).all(dim=1).numpy()
        if not good.any():
            return
        clients, parts, samples = first.clients[good], parts[torch.from_numpy(good)], first.samples[good]
        self._vectors.store(clients, parts.numpy())
        mean = WeightedSum().combine(parts, samples / samples.sum())
        self._means.append((mean, int(samples.sum())))

    def average(self, weights: Tensor, planned_groups: int) -> Tensor:
        """Collective. Return the global model with the average of the parts kept in this round in their places.

        Args:
            weights: The global model, float32 [params].
            planned_groups: Groups of the round's plan.
        """
        world = self._world
        total = sum(world.communicator.gather_all(sum(samples for _, samples in self._means)))
        if not total:
            return weights
        mean = exact_weighted_sum(
            [mean for mean, _ in self._means],
            [samples / total for _, samples in self._means],
            size=self._part.size,
            planned_groups=planned_groups,
            communicator=world.communicator,
            single=True,
        )
        averaged = weights.clone()
        self._part.put(averaged, mean.to(weights.device))
        return averaged

    def _parts(self, clients: Ids) -> Tensor:
        """Return each client's part, float32 [clients, size]; the initial model's for those that have none."""
        known = self._vectors.known(clients)
        parts = self._initial.expand(len(clients), -1).clone()
        parts[torch.from_numpy(known)] = torch.from_numpy(self._vectors.rows(clients[known]))
        return parts

    @cached_property
    def _initial(self) -> Tensor:
        return self._part.take(self._world.model.initial_weights(self._world.config.run.seed))


def own_weights(world: World, weights: Tensor, parts: VectorTable, hosted: Sequence[Ids]) -> Callable[[int], Tensor]:
    """Collective. Return what gives the weights that a client is tested with, float32 [params].

    A client with a part of its own has that, any other the averaged one, which lies in the global model.

    Args:
        world: The run.
        weights: The global model, float32 [params].
        parts: The parts of the clients whose home this rank is.
        hosted: For each rank the clients that it tests, ids ascending.
    """
    here = HostedVectors(parts, world.communicator)
    here.fetch(hosted)

    def weights_of(client: int) -> Tensor:
        alone = np.array([client], np.int64)
        if not here.known(alone)[0]:
            return weights
        own = weights.clone()
        world.personal.put(own, torch.from_numpy(here.rows(alone)[0]).to(own.device))
        return own

    return weights_of
