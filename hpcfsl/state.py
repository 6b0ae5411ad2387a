"""What one round hands to the next, and how a checkpoint keeps it.

Layer 4.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.parallel.clients import ClientTable
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.homes import home_of, homes_before
from hpcfsl.parallel.scratch import MIB
from hpcfsl.parallel.vectors import VectorTable
from hpcfsl.trace.checkpoint import LoadedCheckpoint
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.shards import ranks_of_shards, read_shards, read_vectors
from hpcfsl.world import World

PERSONAL, VARIATE = "personal", "variate"
"""Names of what stays with clients: see `hpcfsl.personal` and `hpcfsl.variates`."""
LOT_BYTES = 64 * MIB


@dataclass(frozen=True, kw_only=True)
class State:
    """What one round hands to the next; all but `clients` and `vectors` is the same on every rank.

    Attributes:
        weights: Global model, float32 [params].
        last_update: Last target update, float32 [params].
        clients: What is remembered of the clients whose home this rank is.
        score_pool: Credit scores of recent rounds for `threshold.scope = "memory"`, one array a round.
        virtual_time: Virtual seconds of all rounds so far, NaN after a round without a clock.
        moments: What the server optimiser keeps, by name, float32 [params] each; empty before the first step.
        server_steps: Rounds that have moved the model.
        vectors: What stays with the clients whose home this rank is, by name; empty for most settings.
        variate: SCAFFOLD's c, float32 [params] on the CPU; None without it.
    """

    weights: torch.Tensor
    last_update: torch.Tensor
    clients: ClientTable
    score_pool: tuple[NDArray[np.float64], ...]
    virtual_time: float = 0.0
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    server_steps: int = 0
    vectors: Mapping[str, VectorTable] = field(default_factory=dict)
    variate: torch.Tensor | None = None


def initial_state(world: World, scratch: Path | None = None) -> State:
    """Return the state before the first round.

    Args:
        world: The run.
        scratch: Folder for what stays with clients and does not fit into memory; the system's own by default.
    """
    weights = world.model.initial_weights(world.config.run.seed).to(world.device)
    vectors = _make_vectors(world, scratch or Path(tempfile.gettempdir()))
    return State(
        weights=weights,
        last_update=torch.zeros(len(weights)),
        clients=ClientTable(),
        score_pool=(),
        vectors=vectors,
        variate=torch.zeros(len(weights)) if VARIATE in vectors else None,
    )


def describe_non_finite(world: World, state: State) -> str | None:
    """Return how much of the model is NaN or infinite and where, in words; None where all of it is finite."""
    if bool(torch.isfinite(state.weights.sum())):  # at the speed of memory; a sum of finite numbers may be infinite
        return None
    bad = ~torch.isfinite(state.weights)
    if not bool(bad.any()):
        return None
    first = int(torch.nonzero(bad)[0])
    name = next(name for name, where in world.model.layout.slices.items() if where.start <= first < where.stop)
    return f"{int(bad.sum())} of the model's {len(bad)} parameters are NaN or infinite, the first of them in {name}"


def state_arrays(state: State) -> dict[str, NDArray[Any]]:
    """Return what every rank knows except for the weights, by name, as a checkpoint keeps it."""
    pool = {f"score_pool/{age:04d}": scores for age, scores in enumerate(state.score_pool)}
    moments = {f"moments/{name}": values.cpu().numpy() for name, values in state.moments.items()}
    variate = {} if state.variate is None else {"variate": state.variate.numpy()}
    return {
        "last_update": state.last_update.cpu().numpy(),
        "virtual_time": np.array([state.virtual_time]),
        "server_steps": np.array([state.server_steps]),
        **pool,
        **moments,
        **variate,
    }


def vector_lots(state: State) -> dict[str, Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    """Return what stays with the clients whose home this rank is, by name, some clients at a time, for a checkpoint."""
    return {name: table.pieces(LOT_BYTES) for name, table in state.vectors.items()}


def restore_state(world: World, folder: RunFolder, loaded: LoadedCheckpoint, scratch: Path | None = None) -> State:
    """Return the state that a checkpoint kept, on any number of ranks; `scratch` is as for `initial_state`.

    Raises:
        DamagedFileError: This rank cannot read its clients.
        UserError: What stays with them does not fit into memory, and cannot be written to that folder.
    """
    arrays = loaded.checkpoint.arrays
    return State(
        weights=torch.from_numpy(loaded.checkpoint.weights.copy()).to(world.device),
        last_update=torch.from_numpy(arrays["last_update"].copy()),
        clients=_restore_clients(folder, loaded, world.communicator),
        score_pool=tuple(values for name, values in sorted(arrays.items()) if name.startswith("score_pool/")),
        virtual_time=float(arrays["virtual_time"][0]),
        moments={
            name.removeprefix("moments/"): torch.from_numpy(values.copy()).to(world.device)
            for name, values in sorted(arrays.items())
            if name.startswith("moments/")
        },
        server_steps=int(arrays["server_steps"][0]),
        vectors=_restore_vectors(world, folder, loaded, scratch),
        variate=torch.from_numpy(arrays["variate"].copy()) if "variate" in arrays else None,
    )


def _restore_clients(folder: RunFolder, loaded: LoadedCheckpoint, communicator: Communicator) -> ClientTable:
    """Return what is remembered of the clients whose home this rank is now."""
    files, rank, size = loaded.header.files, communicator.rank, communicator.size
    before = ranks_of_shards(files)
    found = read_shards(folder, files, homes_before(rank, size, before)) if before else {}
    if not found:
        return ClientTable()
    own = np.flatnonzero(home_of(found["clients"], size) == rank)
    order = own[np.argsort(found["clients"][own])]
    return ClientTable({name: values[order] for name, values in found.items()})


def vector_widths(world: World) -> dict[str, int]:
    """Return the length of each vector that stays with a client, by name; nothing for most settings."""
    widths = {PERSONAL: world.personal.size} if world.personal.size else {}
    if world.config.training.drift != "none":
        widths[VARIATE] = world.model.layout.size
    return widths


def _make_vectors(world: World, scratch: Path) -> dict[str, VectorTable]:
    """Return empty tables for what stays with clients, which share the memory for it so that each holds as many."""
    widths = vector_widths(world)
    budget, total = int(world.config.run.client_state_mib * MIB), sum(widths.values())
    return {name: VectorTable(width, budget * width // total, scratch) for name, width in widths.items()}


def _restore_vectors(
    world: World, folder: RunFolder, loaded: LoadedCheckpoint, scratch: Path | None
) -> dict[str, VectorTable]:
    """Return what stays with the clients whose home this rank is now."""
    files, rank, size = loaded.header.files, world.communicator.rank, world.communicator.size
    tables, before = _make_vectors(world, scratch or Path(tempfile.gettempdir())), ranks_of_shards(files)
    for name, table in tables.items():
        for clients, rows in read_vectors(folder, files, name, homes_before(rank, size, before or size)):
            own = home_of(clients, size) == rank
            table.store(clients[own], rows[own])
    return tables
