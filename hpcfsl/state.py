"""What one round hands to the next, and how a checkpoint keeps it.

Layer 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.parallel.clients import ClientTable
from hpcfsl.world import World


@dataclass(frozen=True, kw_only=True)
class State:
    """What one round hands to the next, the same on every rank.

    Attributes:
        weights: Global model, float32 [params].
        last_update: Last target update, float32 [params].
        clients: What is remembered of clients.
        score_pool: Credit scores of recent rounds for `threshold.scope = "memory"`, one array a round.
    """

    weights: torch.Tensor
    last_update: torch.Tensor
    clients: ClientTable
    score_pool: tuple[NDArray[np.float64], ...]


def initial_state(world: World) -> State:
    """Return the state before the first round."""
    weights = world.model.initial_weights(world.config.run.seed).to(world.device)
    return State(weights=weights, last_update=torch.zeros(len(weights)), clients=ClientTable(), score_pool=())


def state_arrays(state: State) -> dict[str, NDArray[Any]]:
    """Return everything but the weights, by name, as a checkpoint keeps it."""
    pool = {f"score_pool/{age:04d}": scores for age, scores in enumerate(state.score_pool)}
    table = {f"clients/{name}": values for name, values in state.clients.arrays().items()}
    return {"last_update": state.last_update.numpy(), **table, **pool}


def restore_state(world: World, weights: NDArray[np.float32], arrays: Mapping[str, NDArray[Any]]) -> State:
    """Return the state that a checkpoint kept as `weights` [params] and `state_arrays`."""
    table = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith("clients/")}
    return State(
        weights=torch.from_numpy(weights.copy()).to(world.device),
        last_update=torch.from_numpy(arrays["last_update"].copy()),
        clients=ClientTable(table),
        score_pool=tuple(values for name, values in sorted(arrays.items()) if name.startswith("score_pool/")),
    )
