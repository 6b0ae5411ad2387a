"""What stays with clients from round to round, during one round: given to training, taken back after it, sent home.

Layer 4. `hpcfsl.personal` and `hpcfsl.variates` say what it is; here both go through the stages of a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.parallel.vectors import HostedVectors
from hpcfsl.personal import PersonalParts
from hpcfsl.state import PERSONAL, VARIATE, State
from hpcfsl.training.updates import FirstUpdates, LocalData
from hpcfsl.variates import Variates
from hpcfsl.world import World

Ids = NDArray[np.int64]


class Keeping:
    """The vectors of the clients that a rank hosts in a round; nothing at all for most settings.

    Args:
        world: The run.
        state: The state before the round.
    """

    def __init__(self, world: World, state: State) -> None:
        self._here = {name: HostedVectors(table, world.communicator) for name, table in state.vectors.items()}
        self._parts = PersonalParts(world, self._here[PERSONAL]) if PERSONAL in self._here else None
        self._variates = None
        if VARIATE in self._here:
            assert state.variate is not None
            self._variates = Variates(world, self._here[VARIATE], state.variate)

    def fetch(self, hosted: Sequence[Ids]) -> None:
        """Collective. Receive the vectors of the clients that each rank hosts, int64 [clients] each, ids ascending."""
        for vectors in self._here.values():
            vectors.fetch(hosted)

    def prepare(self, start: Tensor, data: LocalData) -> tuple[Tensor, LocalData]:
        """Return what clients start from and train on.

        Args:
            start: The global model, float32 [params].
            data: The clients' samples.
        """
        if self._variates is not None:
            # Beside the samples: what trains takes both to its device, a chunk of clients at a time.
            data = replace(data, drift=self._variates.drifts(data.clients))
        if self._parts is not None:
            start = self._parts.starts(start, data.clients)
        return start, data

    def take_back(self, first: FirstUpdates, start: Tensor) -> None:
        """Keep what a group's training made of clients' own parts; it leaves the first updates, in place.

        Args:
            first: The group's local training.
            start: What its clients started from, as `prepare` returned it.
        """
        if self._parts is not None and len(first.clients):
            self._parts.keep(first, start)

    def settle(self, first: FirstUpdates, uploads: Tensor, kept: NDArray[np.bool_]) -> None:
        """Keep what follows from the uploads of a group whose update was used.

        Args:
            first: The group's local training.
            uploads: First model updates as the aggregator used them, float32 [clients, params].
            kept: The remaining clients, bool [clients].
        """
        if self._variates is not None:
            self._variates.keep(first.clients, first.steps, uploads, kept)

    def finish(self, state: State, planned_groups: int) -> State:
        """Collective. Send everything home; return the state with what the round made of it.

        Args:
            state: The state with the round's target update applied.
            planned_groups: Groups of the round's plan.
        """
        if self._parts is not None:
            state = replace(state, weights=self._parts.average(state.weights, planned_groups))
        if self._variates is not None:
            state = replace(state, variate=self._variates.move(planned_groups))
        for vectors in self._here.values():
            vectors.send_home()
        return state
