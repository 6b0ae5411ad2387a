"""What becomes of each client of a group in a round: its fault, how far it comes, what it sends, how long it takes.

Layer 4. A function of settings, seed, round and client, so every rank knows it without asking. The order in which
things that happen at once are settled: a client that drops out is gone, whatever the clock says; one that arrives after
the deadline is late, whatever its upload holds; what arrives in time may be corrupt.

A lost client is not trained at all. Nothing that its training would give is seen by anybody: each client has its own
copy of the server half, or the server discards what the client did to a half that is shared, its session; groups score
and sum what arrives, and what the client sent and how long it took follow from counts.

Where clients train in turn, each waits for those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hpcfsl.clock import Work
from hpcfsl.faults import DROPPED, LOST, Fault
from hpcfsl.faults.leaving import bytes_until, samples_passed, steps_done
from hpcfsl.training.batches import num_steps
from hpcfsl.training.protocols import WireBytes
from hpcfsl.training.shared.trainer import turn_order
from hpcfsl.world import World


@dataclass(frozen=True, kw_only=True)
class Fates:
    """The clients of a group and what becomes of them, arrays [clients].

    Attributes:
        clients: All clients that the server counted on, ids ascending, int64.
        samples: Their training samples, int64.
        attackers: The truth, bool.
        faults: `Fault` of each, int8.
        steps: Local steps taken, int64.
        wire: Bytes that crossed the wires.
        seconds: Virtual time from the start of the round until the client is done or gone, NaN without a clock.
    """

    clients: NDArray[np.int64]
    samples: NDArray[np.int64]
    attackers: NDArray[np.bool_]
    faults: NDArray[np.int8]
    steps: NDArray[np.int64]
    wire: WireBytes
    seconds: NDArray[np.float64]

    @cached_property
    def arrived(self) -> NDArray[np.bool_]:
        """Whose upload reaches the group in time, bool [clients]."""
        found: NDArray[np.bool_] = ~np.isin(self.faults, LOST)
        return found


def decide_fates(world: World, clients: NDArray[np.int64], round: int) -> Fates:
    """Return what becomes of a group's clients.

    Args:
        world: The run.
        clients: The group's clients, ids ascending, int64.
        round: The round.
    """
    config, seed = world.config, world.config.run.seed
    samples = world.population.train_counts(clients)
    faults = config.faults.draw(clients, config.clock.fault_factors(clients, seed), seed=seed, round=round)
    steps, wire, seconds = _work(world, clients, samples, faults, round)
    late = (seconds > config.clock.deadline) & ~np.isin(faults, DROPPED)
    return Fates(
        clients=clients,
        samples=samples,
        attackers=world.is_attacker(clients, round),
        faults=np.where(late, Fault.LATE, faults).astype(np.int8),
        steps=steps,
        wire=wire,
        seconds=seconds,
    )


def seconds_waited(fates: Fates, deadline: float) -> float:
    """Return how long a server waits for these clients, in virtual seconds; NaN without a clock, 0 for nobody.

    Without a deadline a lost connection is noticed at once, so the server waits until the last client is done or gone.
    With one it cannot tell a lost client from a slow one: it waits until the deadline for anybody who does not arrive.
    """
    if not len(fates.clients):
        return 0.0
    missed = np.isfinite(deadline) and not fates.arrived.all()
    return float(deadline) if missed else float(fates.seconds.max())


def _work(
    world: World, clients: NDArray[np.int64], samples: NDArray[np.int64], faults: NDArray[np.int8], round: int
) -> tuple[NDArray[np.int64], WireBytes, NDArray[np.float64]]:
    """Return steps taken, bytes sent and virtual seconds of each client, [clients] each."""
    training, seed = world.config.training, world.config.run.seed
    every_step = num_steps(samples, batch_size=training.batch_size, epochs=training.local_epochs)
    steps = steps_done(faults, clients, every_step, seed=seed, round=round)
    passed = samples_passed(steps, samples, training.batch_size)
    whole = world.wire_bytes(samples, clients)
    ahead = world.cuts.wire_bytes(clients, lambda model: world.config.protocol.wire_bytes(model, samples, 0))
    wire = bytes_until(whole, ahead, faults, passed, samples * training.local_epochs)
    if not world.config.clock.is_on:
        return steps, wire, np.full(len(clients), np.nan)
    at_client, at_server = world.cuts.sample_operations(clients)
    screened = (world.config.protocol.undoes == "screen") & (faults != Fault.DROPPED_BEFORE)
    work = Work(
        clients=clients,
        client_flops=(passed * at_client + screened * samples * world.undo_operations.screened).astype(np.float64),
        server_flops=(passed * at_server).astype(np.float64),
        steps=steps,
        wire=wire,
        early_messages=screened.astype(np.int64),
    )
    seconds = world.config.clock.client_seconds(work, seed=seed, round=round)
    seconds = np.where(faults == Fault.DROPPED_BEFORE, 0.0, seconds)
    if world.config.protocol.in_turn:
        order = turn_order(clients, seed=seed, round=round)
        seconds[order] = np.cumsum(seconds[order])
    return steps, wire, seconds
