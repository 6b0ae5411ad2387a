"""Which share of a round goes into the trace and the checkpoint, under the default settings and cadence.

`mpirun -n N python -m hpcfsl.bench.shares JSON`. Rounds of the whole method run as in a real run, everything recorded
that is recorded by default. The share is that of the phase `record` (norms, hashes, rows to root, updates handed to the
writer) and of the commits, which write segments, updates and checkpoint: what the timed rounds brought to disk, and
their part of a commit every 50 rounds. Evaluation, which these workloads leave out, would make it smaller.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hpcfsl.bench.clock import announce, peak_memory_bytes
from hpcfsl.bench.method import commit_seconds, open_loop, timed
from hpcfsl.bench.request import Request, configuration
from hpcfsl.bench.worker import describe, in_new_folder, serve
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.world import build_world


class AddingStopwatch(Stopwatch):
    """A stopwatch that remembers what was taken from it.

    Attributes:
        total: Seconds by phase of all that was taken.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """Return the seconds by phase since the last call, add them to `total`, and start again."""
        taken = super().take()
        self.total = {name: self.total.get(name, 0.0) + taken.get(name, 0.0) for name in {*self.total, *taken}}
        return taken


def measure(request: Request, communicator: Communicator, out: Path) -> dict[str, Any]:
    """Collective. Return the seconds of rounds, of recording and of committing on root, {} elsewhere."""
    world = build_world(configuration(request, "hardened"), communicator)
    watch = AddingStopwatch()
    loop = open_loop(world, out, watch)
    for _ in range(request.warmup):
        loop.one_round()
    loop.commit()
    watch.take()
    watch.total.clear()
    announce(communicator.rank == 0)
    communicator.barrier()
    rounds: list[float] = []
    started, done = time.monotonic(), False
    while not done:
        rounds.append(timed(loop.one_round, communicator))
        done = communicator.broadcast(time.monotonic() - started >= request.seconds and len(rounds) >= request.rounds)
    watch.take()
    # The phase of the slowest rank, which is root: it alone puts rows in order.
    recorded = max(communicator.gather_all(watch.total["record"]))
    commit = commit_seconds(loop, communicator, len(rounds))
    memory = communicator.gather_root(peak_memory_bytes())
    if communicator.rank != 0:
        return {}
    return {
        "round_seconds": rounds,
        "record_seconds": recorded,
        "commit_seconds": commit,
        "peak_memory_bytes": memory,
        "cohort": request.description.cohort,
        **describe(world),
    }


def share(result: dict[str, Any]) -> float:
    """Return the share of recording and committing in the time of rounds and commits."""
    written = result["record_seconds"] + result["commit_seconds"]
    return float(written / (sum(result["round_seconds"]) + result["commit_seconds"]))


if __name__ == "__main__":
    serve(in_new_folder(measure))
