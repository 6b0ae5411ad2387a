"""Runs settings of the design on the ranks it is started with and prints what every stage took, as one JSON line.

Layer 4. Started by `measure` under mpirun: `python -m hpcfsl.scaling.ranks ROUNDS FOLDER NAME [NAME ...]`. One start
for all settings, because a start of eight ranks costs more than the runs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.mpi import connect
from hpcfsl.scaling.design import LAST_ROUNDS, WARM_ROUNDS, Setting, chosen
from hpcfsl.scaling.stages import LoggingStopwatch, Measured, measure_round, split_rounds
from hpcfsl.simulation import simulate
from hpcfsl.trace.folder import RunFolder

NETWORK_BYTES = (80_000, 800_000, 8_000_000)
_REPEATS = 21


def measure_setting(setting: Setting, rounds: int, folder: Path, communicator: Communicator) -> list[Measured]:
    """Collective. Run a setting and return so many timed rounds, on root; an empty list elsewhere."""
    total = WARM_ROUNDS + rounds + LAST_ROUNDS
    config, watch = resolve(setting.tree(total)), LoggingStopwatch()
    simulate(config, RunFolder(folder), communicator, watch=watch)
    logs = [split_rounds(log) for log in communicator.gather_root(watch.log)]
    pooled = config.threshold.scope == "pooled"
    each = [[log[number] for log in logs] for number in range(total)] if logs else []
    pairs = list(pairwise(each))[WARM_ROUNDS - 1 : total - LAST_ROUNDS - 1]
    return [measure_round(before, now, pooled=pooled) for before, now in pairs]


def measure_network(communicator: Communicator) -> dict[str, float]:
    """Collective. Return the median seconds of summing vectors of so many bytes, and of gathering an object (0)."""
    found = {}
    for size in NETWORK_BYTES:
        values = np.zeros(size // 8, np.int64)
        found[str(size)] = _median_seconds(partial(communicator.sum_in_place, values), communicator)
    found["0"] = _median_seconds(lambda: communicator.gather_all(0), communicator)
    return found


def _median_seconds(action: Callable[[], object], communicator: Communicator) -> float:
    """Collective. Return the median over repetitions of the seconds that the slowest rank took."""
    found = []
    for _ in range(_REPEATS):
        communicator.barrier()
        started = time.perf_counter()
        action()
        found.append(max(communicator.gather_all(time.perf_counter() - started)))
    return median(found)


def main(arguments: list[str]) -> None:
    """Measure the named settings; root prints the event `result` for `hpcfsl.bench.processes`."""
    rounds, base, names = int(arguments[0]), arguments[1], tuple(arguments[2:])
    communicator = connect()
    base = communicator.broadcast(base)
    found: dict[str, Any] = {}
    for setting in chosen(names):
        with tempfile.TemporaryDirectory(dir=base) as folder:
            shared = Path(communicator.broadcast(folder))
            measured = measure_setting(setting, rounds, shared / "run", communicator)
            communicator.barrier()  # nobody leaves a folder that root still needs
        found[setting.name] = [asdict(each) for each in measured]
    network = measure_network(communicator)
    if communicator.rank == 0:
        print(json.dumps({"event": "result", "settings": found, "network": network}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
