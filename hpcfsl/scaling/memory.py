"""The memory that a rank will need at its peak, by what it is for.

Layer 4. Counts times their bytes, as the code holds them; docs/running.md says the same in words. What a process takes
before the first round (interpreter, libraries, data) is not counted but read from the one that asks.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from hpcfsl.aggregate.geometry import slice_bounds
from hpcfsl.data import arena
from hpcfsl.native import columns
from hpcfsl.parallel.placement import place_groups
from hpcfsl.scaling.sizes import MIB, Sizes
from hpcfsl.scaling.vectors import client_vectors
from hpcfsl.scaling.workload import Workload
from hpcfsl.state import LOT_BYTES, PERSONAL, VARIATE, vector_widths
from hpcfsl.world import World

_FLOAT, _DOUBLE = 4, 8
_MPI_BYTES = 40 * MIB  # what an MPI library and its buffers add to a process
_MODEL_COPIES = 6  # weights, the step, the last update, the hash, and two on the way
_FILE_GROWTH = 1.1  # a file is built in memory, in a buffer that grows ahead
_ROUNDS_COPIED = 2  # rows of a segment: as buffered, and joined when they are written


def predict_memory(world: World, work: Workload, ranks: int, sizes: Sizes) -> dict[str, float]:
    """Return the bytes of the rank that needs most, by purpose, at the moment when it needs most.

    A rank does one thing after another: it trains, or sums over groups, or writes what it buffered; what is held all
    the while comes on top.

    Args:
        world: The run.
        work: A round of it.
        ranks: Ranks of the run.
        sizes: What it writes.
    """
    run, params = world.config.run, work.params
    groups = int(np.bincount(place_groups(work.samples, ranks), minlength=ranks).max())
    vectors = client_vectors(world, work, ranks)
    always = {
        "process and data": float(resident_bytes() - cached_bytes(run.data_cache)) + (_MPI_BYTES if ranks > 1 else 0),
        "model": float(_MODEL_COPIES * params * _FLOAT),
        "server optimiser": float(3 * len(world.config.server_optimizer.first_moments()) * params * _FLOAT),
        "updates to record": _buffered_bytes(world, work, ranks),
        "rows to record": _ROUNDS_COPIED * sizes.raw_rows * min(run.checkpoint_rounds, run.rounds),
        "clients' vectors": vectors.memory_bytes,
    }
    moments: list[dict[str, float]] = [
        _training(world, work, ranks),
        {
            "sum across groups": float(params * (groups * _FLOAT + 2 * _DOUBLE)) + _slices(work, ranks, groups),
            "sums of clients' vectors": float(groups * sum(vector_widths(world).values()) * _FLOAT),
        },
        {"file of updates": _FILE_GROWTH * always["updates to record"]},
        {"file of clients' vectors": (1 + _FILE_GROWTH) * min(vectors.homes * vectors.row_bytes, LOT_BYTES)},
    ]
    sums = [sum(moment.values()) for moment in moments]
    return {**always, **moments[int(np.argmax(sums))]}


def held_clients(work: Workload, ranks: int) -> int:
    """Return how many clients' uploads the rank with most of them holds at once."""
    if not work.pooled:
        return int(work.clients.max())
    return int(np.bincount(place_groups(work.samples, ranks), work.clients, minlength=ranks).max())


def spilled_bytes(world: World, work: Workload, ranks: int) -> float:
    """Return the bytes of a rank's scratch file of waiting uploads beyond `run.hold_mib`."""
    held = held_clients(work, ranks) * work.params * _FLOAT
    return max(0.0, held - world.config.run.hold_mib * MIB) if work.pooled else 0.0


def shared_bytes(world: World) -> int:
    """Return the bytes of data that the ranks of a node hold together; each one's resident memory counts them too."""
    dataset, run = world.feed.dataset, world.config.run
    arrays = (dataset.inputs, dataset.targets, dataset.owners, dataset.test_inputs, dataset.test_targets)
    held = [each for each in arrays if each is not None and not (run.data_cache and arena.is_in_file(each))]
    return sum(array.nbytes for array in held) if run.share_data else 0


def cached_bytes(folder: str) -> int:
    """Return the memory that mapped files of `run.data_cache` take now: the system takes it back when it is short."""
    if not folder:
        return 0
    place, found, inside = f"{Path(folder).expanduser().resolve()}/", 0, False
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as stream:
        for line in stream:
            key, *rest = line.split()
            if not key.endswith(":"):  # the first line of a mapping ends with the path
                inside = place in line
            elif inside and key == "Rss:":
                found += int(rest[0]) * 1024
    return found


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


def _training(world: World, work: Workload, ranks: int) -> dict[str, float]:
    """Return what a rank holds while it trains and scores: uploads that wait, and those of one group."""
    params, largest = work.params, int(work.clients.max())
    at_once = world.executor.chunk_clients if world.executor.name.startswith("stacked") else 1
    waiting = held_clients(work, ranks) * params * _FLOAT - spilled_bytes(world, work, ranks)
    # Without the kernels the scores are made of several copies of the group's uploads.
    scoring = 8 * params if columns.available() else 2 * largest * params
    widths = vector_widths(world)
    return {
        # Each client starts from a model of its own, and has a drift of its own.
        "clients' starts": float(largest * params * _FLOAT * (PERSONAL in widths)),
        "drifts": float(largest * params * _FLOAT * (VARIATE in widths)),
        "uploads": max(waiting, float(largest * params * _FLOAT)),
        "samples of a group": float(int(work.samples.max()) * prod(world.feed.sample_shape) * _FLOAT),
        "scoring a group": float(scoring * _FLOAT),
        "engine": 4.0 * at_once * params * _FLOAT,
    }


def _slices(work: Workload, ranks: int, groups: int) -> float:
    if work.rule == "weighted":
        return 0.0
    largest = float(np.diff(slice_bounds(work.params, ranks)).max())
    return work.params * groups * _FLOAT + 2 * work.groups * largest * _FLOAT


def _buffered_bytes(world: World, work: Workload, ranks: int) -> float:
    """Return the vectors that wait to be written."""
    run = world.config.run
    due = work.vectors * min(run.checkpoint_rounds, run.rounds) / min(ranks, work.groups) * work.vector_bytes
    return min(world.config.trace.buffer_mib * MIB + work.vector_bytes, due)
