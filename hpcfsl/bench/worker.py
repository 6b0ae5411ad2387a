"""One contender of ours at work: started by the driver on every rank, `mpirun -n 2 python -m hpcfsl.bench.worker JSON`.

Runs whole rounds of the method through the program's own interface, without a run folder and without evaluation.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcfsl.bench.clock import peak_memory_bytes, tell, time_rounds
from hpcfsl.bench.flops import training_flops
from hpcfsl.bench.request import Request, configuration, read_request
from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.mpi import connect
from hpcfsl.provenance import package_versions
from hpcfsl.round import run_round
from hpcfsl.state import State, initial_state
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.world import World, build_world

Work = Callable[[Request, Communicator], dict[str, Any]]


class Rounds:
    """Rounds without a trace: each call runs the next one."""

    def __init__(self, world: World) -> None:
        self._world, self._next, self._watch = world, 0, Stopwatch()
        self._state: State = initial_state(world)

    def __call__(self) -> None:
        """Collective. Run the next round."""
        self._state, _ = run_round(self._world, self._state, self._next, self._watch)
        self._next += 1

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase since the last call."""
        return self._watch.take()


def measure(request: Request, communicator: Communicator) -> dict[str, Any]:
    """Collective. Do the work of a request; return the result on root, an empty one elsewhere."""
    workload = request.description
    world = build_world(configuration(request), communicator)
    rounds = Rounds(world)
    ready = time.monotonic() - request.started
    once = bool(workload.rounds)
    marks = time_rounds(
        rounds,
        communicator,
        warmup=0 if once else request.warmup,
        seconds=0.0 if once else request.seconds,
        rounds=workload.rounds or request.rounds,
    )
    memory = communicator.gather_root(peak_memory_bytes())
    phases = communicator.gather_root(rounds.phases())
    if communicator.rank != 0:
        return {}
    return {
        "marks": marks,
        "cohort": workload.cohort,
        "ready_seconds": ready,
        "peak_memory_bytes": memory,
        "phase_seconds": phases,
        **describe(world),
    }


def describe(world: World) -> dict[str, Any]:
    """Return what was measured: the executor, the model's size, its operations, the versions."""
    import torch

    rows = world.population.train_rows(0)
    sample = torch.from_numpy(world.feed.inputs(rows[:1]))
    return {
        "executor": world.executor.name,
        "device": world.device.type,
        "parameters": world.model.layout.size,
        "flops_per_client": len(rows) * world.config.training.local_epochs * training_flops(world.model.whole, sample),
        "versions": package_versions(),
    }


def in_new_folder(measure: Callable[[Request, Communicator, Path], dict[str, Any]]) -> Work:
    """Return the work of measuring with a run folder that is gone afterwards."""

    def work(request: Request, communicator: Communicator) -> dict[str, Any]:
        """Collective. Measure; return what was measured."""
        out = communicator.broadcast(tempfile.mkdtemp(prefix="hpcfsl-bench-") if communicator.rank == 0 else "")
        try:
            return measure(request, communicator, Path(out) / "run")
        finally:
            communicator.barrier()
            if communicator.rank == 0:
                shutil.rmtree(out)

    return work


def serve(work: Work) -> None:
    """Collective. Do the work that the command line asks for, and print its result on root."""
    try:
        communicator = connect()
        result = work(read_request(sys.argv[1]), communicator)
    except UserError as error:
        sys.exit(f"hpcfsl: {one_line(str(error))}")
    if communicator.rank == 0:
        tell(result)
    communicator.barrier()


if __name__ == "__main__":
    serve(measure)
