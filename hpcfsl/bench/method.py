"""What the method costs: whole rounds of it and of plain averaging with the same engine, one after the other.

`mpirun -n N python -m hpcfsl.bench.method JSON`. Both runs live in the same processes and take turns round by round.
The method's side is the loop of a real run: the preset `hardened`, Gaussian perturbation, every score and weight
recorded, updates recorded as by default. The other side is the preset `averaging` with nothing recorded at all. One
commit to disk comes after the timed rounds; a second one, of a single round more, tells what a commit costs whatever it
holds. The method is charged with what the timed rounds brought to disk, and with its share of a commit in 50 rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcfsl.bench.clock import announce, peak_memory_bytes
from hpcfsl.bench.request import Request, configuration
from hpcfsl.bench.worker import Rounds, describe, in_new_folder, serve
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.simulation import RoundLoop
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder
from hpcfsl.world import World, build_world

_ROUNDS_OF_A_COMMIT = 50  # the default of run.checkpoint_rounds


def measure(request: Request, communicator: Communicator, out: Path) -> dict[str, Any]:
    """Collective. Return the seconds of both sides on root, {} elsewhere; the run folder goes to `out`."""
    config = configuration(request, "averaging")
    dataset = config.data.load(config.run.seed)
    baseline = build_world(config, communicator, dataset=dataset)
    plain = Rounds(baseline)
    world = build_world(configuration(request, "hardened"), communicator, dataset=dataset)
    # One engine for both: of two, the place in memory makes one a tenth faster than the other.
    world = replace(world, executor=baseline.executor)
    loop = open_loop(world, out)
    for _ in range(request.warmup):
        plain()
        loop.one_round()
    loop.commit()
    announce(communicator.rank == 0)
    communicator.barrier()
    averaging, method = _alternate(plain, loop.one_round, communicator, request)
    commit = commit_seconds(loop, communicator, len(method))
    memory = communicator.gather_root(peak_memory_bytes())
    if communicator.rank != 0:
        return {}
    return {
        "averaging_seconds": averaging,
        "method_seconds": method,
        "commit_seconds": commit,
        "peak_memory_bytes": memory,
        "cohort": request.description.cohort,
        **describe(world),
    }


def overhead(result: dict[str, Any]) -> float:
    """Return the seconds of the method's rounds over those of plain averaging."""
    return float((sum(result["method_seconds"]) + result["commit_seconds"]) / sum(result["averaging_seconds"]))


def open_loop(world: World, out: Path, watch: Stopwatch | None = None) -> RoundLoop:
    """Collective. Return the loop of a run in a new folder."""
    folder = RunFolder(out)
    if world.communicator.rank == 0:
        folder.create()
    world.communicator.barrier()
    return RoundLoop(world, folder, None, watch or Stopwatch(), None)


def _alternate(
    first: Callable[[], object], second: Callable[[], object], communicator: Communicator, request: Request
) -> tuple[list[float], list[float]]:
    """Collective. Run pairs of rounds until both limits of the request are passed; root decides."""
    started = time.monotonic()
    times: tuple[list[float], list[float]] = ([], [])
    while True:
        for place, action in enumerate((first, second)):
            times[place].append(timed(action, communicator))
        late = time.monotonic() - started >= request.seconds
        if communicator.broadcast(late and len(times[0]) >= request.rounds):
            return times


def commit_seconds(loop: RoundLoop, communicator: Communicator, rounds: int) -> float:
    """Collective. Return the seconds of committing that so many rounds before have to answer for."""
    all_of_them = timed(loop.commit, communicator)
    loop.one_round()
    one = timed(loop.commit, communicator)
    return max(all_of_them - one, 0.0) + one * rounds / _ROUNDS_OF_A_COMMIT


def timed(action: Callable[[], object], communicator: Communicator) -> float:
    """Collective. Return the seconds that an action takes until all ranks are done."""
    started = time.monotonic()
    action()
    communicator.barrier()
    return time.monotonic() - started


if __name__ == "__main__":
    serve(in_new_folder(measure))
