"""What one round hands to the next, and how a checkpoint keeps it.

Layer 4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.parallel.clients import ClientTable
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.homes import home_of, homes_before
from hpcfsl.trace.checkpoint import LoadedCheckpoint
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.shards import ranks_of_shards, read_shards
from hpcfsl.world import World


@dataclass(frozen=True, kw_only=True)
class State:
    """What one round hands to the next; all but `clients` is the same on every rank.

    Attributes:
        weights: Global model, float32 [params].
        last_update: Last target update, float32 [params].
        clients: What is remembered of the clients whose home this rank is.
        score_pool: Credit scores of recent rounds for `threshold.scope = "memory"`, one array a round.
        virtual_time: Virtual seconds of all rounds so far, NaN after a round without a clock.
        moments: What the server optimiser keeps, by name, float32 [params] each; empty before the first step.
        server_steps: Rounds that have moved the model.
    """

    weights: torch.Tensor
    last_update: torch.Tensor
    clients: ClientTable
    score_pool: tuple[NDArray[np.float64], ...]
    virtual_time: float = 0.0
    moments: dict[str, torch.Tensor] = field(default_factory=dict)
    server_steps: int = 0


def initial_state(world: World) -> State:
    """Return the state before the first round."""
    weights = world.model.initial_weights(world.config.run.seed).to(world.device)
    return State(weights=weights, last_update=torch.zeros(len(weights)), clients=ClientTable(), score_pool=())


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
    return {
        "last_update": state.last_update.cpu().numpy(),
        "virtual_time": np.array([state.virtual_time]),
        "server_steps": np.array([state.server_steps]),
        **pool,
        **moments,
    }


def restore_state(world: World, folder: RunFolder, loaded: LoadedCheckpoint) -> State:
    """Return the state that a checkpoint kept, on any number of ranks.

    Raises:
        DamagedFileError: This rank cannot read its clients.
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
