"""What the exact sum over ranks costs beside a plain Allreduce in float32, and what memory alone would take.

`mpirun -n N python -m hpcfsl.bench.reductions JSON`. Every rank has the update of one group. The two sums take turns on
the same vectors, each timed from the vectors in memory to a float32 result on every rank. Each is held against the
time in which a rank could move the bytes that it must, at the speed at which all ranks together copy memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.aggregate.plain import float32_weighted_sum, relative_difference
from hpcfsl.bench.clock import announce, peak_memory_bytes, tell
from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.mpi import connect
from hpcfsl.provenance import package_versions

# Bytes of a coordinate that pass through a rank's memory at the least, where integers and messages stay in its cache:
# the vector read twice and the float32 sum written; or read once and written once.
EXACT_BYTES, FLOAT32_BYTES = 12, 8
_COPIED = 1 << 23  # float64: 64 MiB, more than any cache of a core
_COPIES = 5


def measure(sizes: list[int], repeats: int, communicator: Communicator) -> dict[str, Any]:
    """Collective. Return what the sums of vectors of these sizes took, on root, {} elsewhere."""
    torch.set_num_threads(1)
    announce(communicator.rank == 0)
    speed = _copy_speed(communicator)
    rows = [_measure_size(size, repeats, speed, communicator) for size in sizes]
    memory = communicator.gather_root(peak_memory_bytes())
    if communicator.rank != 0:
        return {}
    return {
        "ranks": communicator.size,
        "bytes_per_second": speed,
        "sizes": rows,
        "peak_memory_bytes": memory,
        "versions": package_versions(),
    }


def _measure_size(size: int, repeats: int, speed: float, communicator: Communicator) -> dict[str, Any]:
    """Collective. Return the seconds of both sums in every repeat, their difference, and what memory alone takes."""
    generator, ranks = np.random.default_rng(communicator.rank), communicator.size
    rows, factors = [torch.from_numpy(generator.standard_normal(size, dtype=np.float32))], [1 / ranks]

    def exact(single: bool = True) -> torch.Tensor:
        return exact_weighted_sum(
            rows, factors, size=size, planned_groups=ranks, communicator=communicator, single=single
        )

    def plain() -> torch.Tensor:
        return float32_weighted_sum(rows, factors, size=size, communicator=communicator)

    difference = relative_difference(plain().numpy(), exact(single=False).numpy())
    actions: dict[str, Callable[[], object]] = {"exact_seconds": exact, "float32_seconds": plain}
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            seconds[name].append(_timed(action, communicator))
    return {
        "parameters": size,
        **seconds,
        "difference": difference,
        "exact_memory_seconds": EXACT_BYTES * size / speed,
        "float32_memory_seconds": FLOAT32_BYTES * size / speed,
    }


def _copy_speed(communicator: Communicator) -> float:
    """Collective. Return the bytes a second that one rank reads and writes while all copy at once; the slowest's."""
    source, target = np.ones(_COPIED), np.zeros(_COPIED)
    seconds = min(_timed(lambda: np.copyto(target, source), communicator) for _ in range(_COPIES))
    return 2 * source.nbytes / max(communicator.gather_all(seconds))


def _timed(action: Callable[[], object], communicator: Communicator) -> float:
    """Collective. Return the seconds that an action takes from all ranks' start until all are done."""
    communicator.barrier()
    started = time.perf_counter()
    action()
    communicator.barrier()
    return time.perf_counter() - started


def _main() -> None:
    """Collective. Do what the command line asks for, and print its result on root."""
    try:
        communicator = connect()
    except UserError as error:
        sys.exit(f"hpcfsl: {one_line(str(error))}")
    asked = json.loads(sys.argv[1])
    result = measure(asked["sizes"], asked["repeats"], communicator)
    if communicator.rank == 0:
        tell(result)
    communicator.barrier()


if __name__ == "__main__":
    _main()
