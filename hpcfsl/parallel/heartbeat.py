"""Signs of life: one small file a rank, which says what the rank is doing, and by being rewritten that it lives.

Layer 3. A thread of each rank rewrites its file in `RUN/heartbeat/` every few seconds (`hpcfsl.parallel.watchdog`). The
other ranks read the files only when an exchange takes too long, to tell who has not come. Files work across nodes, need
no MPI, and show a person the same: `head RUN/heartbeat/*`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcfsl.provenance import node_name
from hpcfsl.stopwatch import Stopwatch

FOLDER = "heartbeat"
# All ranks together write about so many times a second at most, however many they are.
_WRITES_A_SECOND = 100
_LEAST_SECONDS = 5.0
_BYTES = 320


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a rank last said of itself.

    Attributes:
        rank: The rank.
        host: Its node.
        pid: Its process there.
        number: How often it has said something.
        time: When, seconds since 1970 by its node's clock.
        still_seconds: How long it had then been doing the same.
        arrivals: Exchanges that it had come to.
        exchange: The one that it waited in, or None.
        phase: What it was doing.
        round: The round, or None.
        group: The group, or None.
    """

    rank: int
    host: str
    pid: int
    number: int
    time: float
    still_seconds: float
    arrivals: int
    exchange: str | None
    phase: str
    round: int | None
    group: int | None

    def text(self) -> str:
        """Return the rank and the last that is known of it, in words."""
        doing = self.phase if self.exchange is None else f"{self.phase}, waiting in {self.exchange}"
        ago = max(0.0, time.time() - self.time) + self.still_seconds
        place = place_text(doing, self.round, self.group)
        return f"rank {self.rank} last in phase {place}, on {self.host}, process {self.pid}, {ago:.0f} s ago"


def place_text(phase: str, round: int | None, group: int | None) -> str:
    """Return a phase with its round and its group, as far as there are any."""
    parts = [phase, *(f"{name} {value}" for name, value in (("round", round), ("group", group)) if value is not None)]
    return ", ".join(parts)


def take_beat(rank: int, watch: Stopwatch, number: int, still_seconds: float) -> Beat:
    """Return what this rank is doing now."""
    return Beat(
        rank=rank,
        host=node_name(),
        pid=os.getpid(),
        number=number,
        time=round(time.time(), 3),
        still_seconds=round(still_seconds, 3),
        arrivals=watch.arrivals,
        exchange=watch.exchange,
        phase=watch.current,
        round=watch.round,
        group=watch.group,
    )


def beat_seconds(size: int, deadline_seconds: float) -> float:
    """Return the time between two beats of a rank: a quarter of the deadline at most, and longer with many ranks."""
    return min(max(_LEAST_SECONDS, size / _WRITES_A_SECOND), deadline_seconds / 4)


def write_beat(run: Path, beat: Beat) -> None:
    """Write a rank's file in a run folder; a folder that cannot be written is no reason to end a run."""
    with contextlib.suppress(OSError):
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        # In place and of one length: no name changes hands, and a reader never meets an empty file.
        descriptor = os.open(_path(run, beat.rank), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, json.dumps(asdict(beat)).encode().ljust(_BYTES) + b"\n", 0)
        finally:
            os.close(descriptor)  # which network file systems take as the order to send it


def read_beat(run: Path, rank: int) -> Beat | None:
    """Return the last beat of a rank; None where there is none, or it cannot be read."""
    try:
        return Beat(**json.loads(_path(run, rank).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def remove_beat(run: Path, rank: int) -> None:
    """Remove a rank's file, and the folder with the last one."""
    with contextlib.suppress(OSError):
        _path(run, rank).unlink(missing_ok=True)
        (run / FOLDER).rmdir()


def clear_beats(run: Path) -> None:
    """Remove what a job that was cut off left behind (root, while it holds the run folder)."""
    with contextlib.suppress(OSError):
        for path in (run / FOLDER).iterdir():
            path.unlink(missing_ok=True)
        (run / FOLDER).rmdir()


def _path(run: Path, rank: int) -> Path:
    return run / FOLDER / f"rank_{rank:06d}"
