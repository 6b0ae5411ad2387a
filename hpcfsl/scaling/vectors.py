"""The vectors that stay with clients from round to round, personal parts and SCAFFOLD's variates, in counts.

Layer 4. A rank keeps those of the clients whose home it is, all that have taken part so far, and in a round those of
the clients that it trains or tests and that live elsewhere, its guests (`hpcfsl.parallel.vectors`). As many of either
as fit into `run.client_state_mib` are in memory, the others in a scratch file. Where draws are left to chance, counts
are those expected at the end of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcfsl.evaluation import evaluated_clients
from hpcfsl.parallel.homes import home_of
from hpcfsl.parallel.placement import place_groups
from hpcfsl.round import plan_round
from hpcfsl.scaling.sizes import MIB, expected_seen
from hpcfsl.scaling.workload import Workload
from hpcfsl.state import PERSONAL, vector_widths
from hpcfsl.world import World

_FLOAT = 4


@dataclass(frozen=True, kw_only=True)
class ClientVectors:
    """The vectors of clients on the rank that has most of them.

    Attributes:
        row_bytes: Bytes of a client's vectors; 0 where nothing stays with clients.
        homes: Clients with vectors whose home the rank is.
        guests: Clients that it trains or tests in a round and that have their home elsewhere.
        room: Clients whose vectors fit into memory, of either kind.
    """

    row_bytes: int = 0
    homes: float = 0.0
    guests: float = 0.0
    room: int = 0

    @property
    def memory_bytes(self) -> float:
        """Bytes in memory."""
        return (min(self.homes, self.room) + min(self.guests, self.room)) * self.row_bytes

    @property
    def scratch_bytes(self) -> float:
        """Bytes in scratch files."""
        return (self.homes + self.guests) * self.row_bytes - self.memory_bytes

    @property
    def sent_bytes(self) -> float:
        """Bytes that go between ranks in a round: each guest's vectors come and go home again."""
        return 2 * self.guests * self.row_bytes


def client_vectors(world: World, work: Workload, ranks: int) -> ClientVectors:
    """Return what stays with clients in a run on `ranks` ranks."""
    widths = vector_widths(world)
    if not widths:
        return ClientVectors()
    row_bytes, population = _FLOAT * sum(widths.values()), world.population.num_clients
    participants, rounds = int(work.clients.sum()), world.config.run.rounds
    seen = expected_seen(population, participants, rounds) / population
    homes = seen * np.bincount(home_of(np.arange(population), ranks), minlength=ranks)
    tested = seen * _tested_guests(world, ranks) * widths.get(PERSONAL, 0) / sum(widths.values())
    guests = np.maximum(_guests(world, work, ranks), tested)
    most = int(np.argmax(homes + guests))
    return ClientVectors(
        row_bytes=row_bytes,
        homes=float(homes[most]),
        guests=float(guests[most]),
        room=int(world.config.run.client_state_mib * MIB) // row_bytes,
    )


def _guests(world: World, work: Workload, ranks: int) -> NDArray[np.int64]:
    """Return how many clients of the first round each rank hosts that have their home elsewhere, int64 [ranks]."""
    found = np.zeros(ranks, np.int64)
    groups = [members for members in plan_round(world, 0).groups if len(members)]
    for members, host in zip(groups, place_groups(work.samples, ranks).tolist(), strict=True):
        found[host] += int((home_of(members, ranks) != host).sum())
    return found


def _tested_guests(world: World, ranks: int) -> float:
    """Return how many clients a rank tests, with their own parts, that have their home elsewhere."""
    tested = len(evaluated_clients(world)) if world.config.evaluation.clients_every else 0
    return tested / ranks * (1.0 - 1.0 / ranks)
