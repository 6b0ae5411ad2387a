"""The memory that a rank will need at its peak, by what it is for.

Layer 4. Counts times their bytes, as the code holds them; docs/running.md says the same in words. What a process takes
before the first round (interpreter, libraries, data) is not counted but read from the one that asks.
"""

from __future__ import annotations

from math import prod

import numpy as np

from hpcfsl.aggregate.geometry import slice_bounds
from hpcfsl.parallel.placement import place_groups
from hpcfsl.scaling.sizes import MIB, Sizes
from hpcfsl.scaling.workload import Workload
from hpcfsl.world import World

_FLOAT, _DOUBLE = 4, 8
_MPI_BYTES = 40 * MIB  # what an MPI library and its buffers add to a process
_ROUNDS_COPIED = 2  # rows of a segment: as buffered, and joined when they are written


def predict_memory(world: World, work: Workload, ranks: int, sizes: Sizes) -> dict[str, float]:
    """Return the bytes of the rank that needs most, by purpose; root's rows are among them.

    Args:
        world: The run.
        work: A round of it.
        ranks: Ranks of the run.
        sizes: What it writes.
    """
    params, largest, run = work.params, int(work.clients.max()), world.config.run
    placed = place_groups(work.samples, ranks)
    most = int(np.bincount(placed, work.clients, minlength=ranks).max())
    groups = int(np.bincount(placed, minlength=ranks).max())
    held = most if work.pooled else largest
    return {
        "process and data": float(resident_bytes()) + (_MPI_BYTES if ranks > 1 else 0),
        "samples of a group": float(int(work.samples.max()) * prod(world.feed.sample_shape) * _FLOAT),
        "uploads held": float(held * params * _FLOAT),
        "scoring a group": 2.0 * largest * params * _FLOAT,
        "engine": _engine_bytes(world, params),
        "sum across groups": float(params * (groups * (_FLOAT + _DOUBLE) + 5 * _DOUBLE)) + _slices(work, ranks, groups),
        "updates to record": _recorded_bytes(world, work, ranks),
        "rows to record": _ROUNDS_COPIED * sizes.raw_rows * min(run.checkpoint_rounds, run.rounds),
    }


def resident_bytes() -> int:
    """Return the memory that this process holds now."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * 4096


def available_bytes() -> int:
    """Return the memory that this machine has left for new work."""
    with open("/proc/meminfo", encoding="ascii") as stream:
        for line in stream:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    raise AssertionError("/proc/meminfo has no MemAvailable")


def _engine_bytes(world: World, params: int) -> float:
    """Return the weights, gradients and state of the clients that train at once."""
    at_once = world.config.training.chunk_clients if world.executor.name.startswith("stacked") else 1
    return 4.0 * at_once * params * _FLOAT


def _slices(work: Workload, ranks: int, groups: int) -> float:
    if work.rule == "weighted":
        return 0.0
    largest = float(np.diff(slice_bounds(work.params, ranks)).max())
    return work.params * groups * _FLOAT + 2 * work.groups * largest * _FLOAT


def _recorded_bytes(world: World, work: Workload, ranks: int) -> float:
    """Return the buffered vectors and the file that they become."""
    settings, run = world.config.trace, world.config.run
    due = work.vectors * min(run.checkpoint_rounds, run.rounds) / min(ranks, work.groups) * work.vector_bytes
    return 2.0 * min(settings.buffer_mib * MIB + work.vector_bytes, due)
