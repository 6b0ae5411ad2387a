"""What all ranks must have in common: version and settings at the start, the state after every round.

Layer 4. What differs and is no mistake, such as two kinds of processor in one job, is warned about and recorded.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from hpcfsl.config import Config
from hpcfsl.parallel.alike import change_since, describe_process, mix_of_ranks, require_same
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.failure import SharedFailureError
from hpcfsl.provenance import node_name
from hpcfsl.state import State, describe_non_finite
from hpcfsl.trace.checkpoint import LoadedCheckpoint
from hpcfsl.trace.fingerprint import hash_bits
from hpcfsl.world import World

_GO_ON = (
    "nothing of it is committed; check the memory, GPU and libraries there; the same command goes on from the last "
    "checkpoint"
)


class DriftError(SharedFailureError):
    """A rank whose state is not root's: its memory, its library or its hardware went wrong."""


class NonFiniteModelError(RuntimeError):
    """A global model with NaN or infinity in it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the ranks run on, as root sees it.

    Attributes:
        process: What of root's process may bear on bits, by name.
        warnings: In what the ranks differ, and what changed since the run's last start; one line each.
    """

    process: dict[str, str]
    warnings: tuple[str, ...]


def require_same_job(config: Config, communicator: Communicator) -> None:
    """Collective. Raise AgreedError on every rank where ranks run another version or other settings than root."""
    require_same(communicator, version("hpcfsl"), config.tree())


def compare_machines(world: World, loaded: LoadedCheckpoint | None) -> Machine:
    """Collective. Compare the ranks with each other and with the start before; print what differs (root)."""
    mine = describe_process(world.device, world.communicator.library)
    found = world.communicator.gather_root(mine)
    texts = [mix_of_ranks(found) if found else None, _change(loaded, mine) if found else None]
    warnings = tuple(text for text in texts if text is not None)
    for text in warnings:
        print(f"hpcfsl: warning: {text}", file=sys.stderr, flush=True)
    return Machine(process=mine, warnings=warnings)


def check_finite(world: World, state: State) -> None:
    """Raise if the model is not finite.

    Raises:
        NonFiniteModelError: It is not. No step of the method leaves the finite numbers, so something else put it there.
    """
    problem = describe_non_finite(world, state)
    if problem is not None:
        raise NonFiniteModelError(f"{problem}: {_GO_ON}")


def check_drift(world: World, state: State, round: int) -> None:
    """Collective. Raise on every rank if what all ranks know is not the same on all of them, bit for bit.

    Raises:
        DriftError: Some rank's state is not root's.
    """
    hashes = world.communicator.gather_all(state_hash(state))
    if len(set(hashes)) == 1:
        return
    places = world.communicator.gather_all(f"{node_name()}, process {os.getpid()}")
    drifted = [f"rank {rank} on {places[rank]}" for rank, found in enumerate(hashes) if found != hashes[0]]
    # With two ranks nobody can say which of them is right.
    raise DriftError(
        f"after round {round} the model of {'; of '.join(drifted[:8])} differs from root's, on {places[0]}: {_GO_ON}"
    )


def state_hash(state: State) -> tuple[int, ...]:
    """Return hashes of all that every rank knows: model, last update, remembered scores, the optimiser's moments."""
    pool = np.concatenate([np.zeros(0), *state.score_pool])
    moments = [values.cpu().numpy() for _, values in sorted(state.moments.items())]
    vectors = state.weights.cpu().numpy(), state.last_update.cpu().numpy(), pool.view(np.float32), *moments
    return tuple(map(hash_bits, vectors))


def _change(loaded: LoadedCheckpoint | None, mine: dict[str, str]) -> str | None:
    before = json.loads(loaded.header.texts.provenance).get("machine") if loaded is not None else None
    return change_since(before, mine) if isinstance(before, dict) else None
