"""Control variates that hold clients' local steps together where their data pull apart (SCAFFOLD).

Layer 4. Karimireddy et al., "SCAFFOLD: stochastic controlled averaging for federated learning" (ICML 2020), algorithm
1, option II. Each local gradient of client i gets c - c_i added. After K steps of size eta,
c_i+ = c_i - c - u_i / (K eta), and c moves by the mean of c_i+ - c_i over all clients of the population.

Choose it for many local steps on data that differ between clients, and clients that come back often: c_i is only as
fresh as its client's last round.

*Ours*: c_i lives with the client's aggregator, which derives it from the upload that it received and used. So an
attacker cannot lie about it on the side, nothing more goes up, and c - c_i goes down with the model. Only clients that
remain after exclusion, in groups whose update was used, move c and their c_i; across groups only a sum over them moves.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.parallel.vectors import HostedVectors
from hpcfsl.training.optimisers import rates_of
from hpcfsl.world import World

Ids = NDArray[np.int64]


class Variates:
    """The control variates of the clients that a rank hosts.

    Args:
        world: The run.
        vectors: Those clients' c_i; one that has none has zeros.
        common: c, float32 [params].
    """

    def __init__(self, world: World, vectors: HostedVectors, common: Tensor) -> None:
        self._world, self._vectors, self._common = world, vectors, common
        layout = world.model.layout
        rates = torch.tensor(rates_of(layout, world.config.training), dtype=torch.float32)
        self._rates = rates.repeat_interleave(torch.tensor(layout.sizes))
        self._moves: list[Tensor] = []

    def drifts(self, clients: Ids) -> Tensor:
        """Return c - c_i of some clients, float32 [clients, params]."""
        drifts = self._common.expand(len(clients), -1).clone()
        known = self._vectors.known(clients)
        drifts[torch.from_numpy(known)] -= torch.from_numpy(self._vectors.rows(clients[known]))
        return drifts

    def keep(self, clients: Ids, steps: NDArray[np.int64], uploads: Tensor, kept: NDArray[np.bool_]) -> None:
        """Derive the new c_i of a group's remaining clients, and how far they move c.

        Args:
            clients: Ids, ascending, int64 [clients].
            steps: Local steps of each, int64 [clients].
            uploads: First model updates as the aggregator used them, float32 [clients, params].
            kept: The remaining clients, whose uploads are finite, bool [clients].
        """
        moved = torch.zeros(len(self._common), dtype=torch.float64)
        for row in np.flatnonzero(kept):
            alone = clients[row : row + 1]
            change = -(self._common + uploads[row].cpu() / (int(steps[row]) * self._rates))
            own = change.clone()
            if self._vectors.known(alone)[0]:
                own += torch.from_numpy(self._vectors.rows(alone)[0])
            if bool(torch.isfinite(own).all()):  # an upload may be finite and this not
                self._vectors.store(alone, own[None].numpy())
                moved += change
        self._moves.append(moved.float())

    def move(self, planned_groups: int) -> Tensor:
        """Collective. Return c after the round, float32 [params].

        Args:
            planned_groups: Groups of the round's plan.
        """
        part = 1 / self._world.population.num_clients
        total = exact_weighted_sum(
            self._moves,
            [part] * len(self._moves),
            size=len(self._common),
            planned_groups=planned_groups,
            communicator=self._world.communicator,
        )
        return (self._common.double() + total).float()
