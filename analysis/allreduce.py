"""How long one sum over all ranks takes under the MPI that is running this, in one printed line.

Use it to choose an MPI library or its settings on a machine: `mpirun -n 2 python analysis/allreduce.py`. The sum of a
large vector of int64 is what a round of training sends most; docs/mpi.md has figures and what was concluded from them.
All kinds are timed in turn, so a slow spell of the machine falls on each of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from mpi4py import MPI

WARM_UP = 3  # the first repetitions set up connections and touch the pages
KINDS = ((np.int64, 10_000), (np.float32, 10_000), (np.int64, 1_000_000), (np.float32, 1_000_000))


def seconds_of(action: Callable[[], object]) -> float:
    """Collective. Return the seconds that `action` took on the slowest rank."""
    MPI.COMM_WORLD.Barrier()
    start = time.perf_counter()
    action()
    return float(MPI.COMM_WORLD.allreduce(time.perf_counter() - start, op=MPI.MAX))


def barriers(number: int) -> None:
    """Collective. Wait for each other so many times."""
    for _ in range(number):
        MPI.COMM_WORLD.Barrier()


def work_on_root() -> None:
    """Collective. Let root compute for 40 ms of processor time while the other ranks wait for it."""
    start = time.process_time()
    while MPI.COMM_WORLD.rank == 0 and time.process_time() - start < 0.040:
        sum(range(1000))
    MPI.COMM_WORLD.Barrier()


def measures() -> dict[str, tuple[int, Callable[[], object]]]:
    """Return what to time, by the name for the printed line: how often in a row, and the action."""
    world = MPI.COMM_WORLD
    actions: dict[str, tuple[int, Callable[[], object]]] = {}
    for kind, count in KINDS:
        ours, total = np.full(count, world.rank + 1, kind), np.empty(count, kind)
        actions[f"{np.dtype(kind).name} x {count}"] = (1, partial(world.Allreduce, ours, total))
    actions["barrier"] = (100, partial(barriers, 100))
    actions["40 ms of root alone"] = (1, work_on_root)
    return actions


def median_times(repeats: int) -> dict[str, float]:
    """Collective. Return the median seconds of each measure."""
    actions = measures()
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats + WARM_UP):
        for name, (number, action) in actions.items():
            times[name].append(seconds_of(action) / number)
    return {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}


def main() -> None:
    """Print the library, the number of ranks, and the milliseconds of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="timed repetitions of each kind")
    times = median_times(parser.parse_args().repeats)
    if MPI.COMM_WORLD.rank == 0:
        library = MPI.Get_library_version().replace("Version:", "").split(",")[0].split("\n")[0]
        figures = "; ".join(f"{name} {1e3 * value:.3f} ms" for name, value in times.items())
        print(f"{' '.join(library.split()[:4])}, {MPI.COMM_WORLD.size} ranks: {figures}")


if __name__ == "__main__":
    main()
