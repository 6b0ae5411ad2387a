"""Timing rounds one by one, until enough of them have passed."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hpcfsl.bench.processes import GATE
from hpcfsl.parallel.communicator import Communicator

_MOST_ROUNDS = 100_000
_POLL_SECONDS = 0.001


def time_rounds(
    one_round: Callable[[], object], communicator: Communicator, *, warmup: int, seconds: float, rounds: int
) -> list[float]:
    """Collective. Run rounds until both limits are passed; return when each began, and when the last ended.

    Args:
        one_round: Runs one round, collectively.
        communicator: The ranks; root decides when it is enough.
        warmup: Rounds before the first that is timed.
        seconds: Least seconds that the timed rounds take.
        rounds: Least number of timed rounds.
    """
    for _ in range(warmup):
        one_round()
    announce(communicator.rank == 0)
    communicator.barrier()
    marks = [time.monotonic()]
    for done in range(1, _MOST_ROUNDS + 1):
        one_round()
        enough = time.monotonic() - marks[0] >= seconds and done >= rounds
        enough = communicator.broadcast(enough)
        marks.append(time.monotonic())
        if enough:
            break
    return marks


def announce(root: bool) -> None:
    """Tell the driver that the timed rounds can begin; wait for the processes that begin with us, if there are any."""
    if not root:
        return
    print(json.dumps({"event": "start"}), flush=True)
    gate = os.environ.get(GATE)
    while gate and not Path(gate).exists():
        time.sleep(_POLL_SECONDS)


def tell(result: dict[str, Any]) -> None:
    """Hand the result to the driver."""
    print(json.dumps({"event": "result", **result}), flush=True)


def round_seconds(marks: Sequence[float], window: tuple[float, float] | None = None) -> list[float]:
    """Return the seconds of each round that lies in `window` (start and end), of all rounds without one."""
    first, last = window or (marks[0], marks[-1])
    return [end - start for start, end in pairwise(marks) if start >= first and end <= last]


def median_rate(work: float, marks: Sequence[float], window: tuple[float, float] | None = None) -> float:
    """Return work a second, from the work of a round and the median seconds of rounds; 0 if none lies in `window`."""
    found = round_seconds(marks, window)
    return work / statistics.median(found) if found else 0.0


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process has had; 0 where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:")), 0)
