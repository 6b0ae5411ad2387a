"""Ends a job that hangs, and says who is to blame.

Layer 3. A thread of each rank looks every few seconds whether its rank has got on. One that works on a single step for
longer than the deadline is stuck and says so itself. One that waits in an exchange for longer reads the heartbeats of
the others: it waits on for those that work, and ends the job where somebody who has not come gives no sign of life.

A rank that is stopped (SIGSTOP) stops its thread too, so it cannot look alive; one in long training looks alive because
its thread goes on beside it. Seconds are counted while the thread runs and beats are compared with earlier ones, so a
job that its scheduler suspends and resumes is not taken for stuck, and the nodes' clocks need not agree.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time

from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.failure_record import record_failure
from hpcfsl.parallel.heartbeat import (
    FOLDER,
    Beat,
    beat_seconds,
    place_text,
    read_beat,
    remove_beat,
    take_beat,
    write_beat,
)
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder

# Until the configuration is read.
START_SECONDS = 1800.0
# Before the first beat can be written, so that it soon is.
_START_PERIOD = 0.5
# A rank whose beat does not change over so many of its periods gives no sign of life.
_SILENT_BEATS = 4
# The job is over once it has been reported; whatever stands in the way of that gets so long.
_LAST_SECONDS = 10.0
_MOST_NAMED = 4
_NOBODY = -1


class Watchdog:
    """The thread of one rank.

    Args:
        folder: The run folder.
        communicator: The ranks; only `abort` is called from the thread.
        watch: What this rank is doing.
    """

    def __init__(self, folder: RunFolder, communicator: Communicator, watch: Stopwatch) -> None:
        self._folder, self._communicator, self._watch = folder, communicator, watch
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hpcfsl-watchdog", daemon=True)
        self._steps, self._beats = -1, 0
        self._still = self._look_at = 0.0
        self._suspect: tuple[int, int] | None = None

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and take this rank's heartbeat away."""
        self._over.set()
        self._thread.join()
        if self._watch.holds_folder:
            remove_beat(self._folder.path, self._communicator.rank)

    def look(self, passed_seconds: float) -> str | None:
        """Write a heartbeat; return what is wrong, if anything.

        Args:
            passed_seconds: Seconds since the last look.
        """
        if self._watch.steps == self._steps:
            self._still += passed_seconds
        else:
            self._steps, self._still, self._look_at, self._suspect = self._watch.steps, 0.0, 0.0, None
        self._beats += 1
        if self._watch.holds_folder:
            write_beat(self._folder.path, take_beat(self._communicator.rank, self._watch, self._beats, self._still))
        if self._still < self._deadline:
            return None
        exchange = self._watch.exchange
        if exchange is None:
            return f"no progress for {self._still:.0f} s (run.deadline_seconds = {self._deadline:g}): taken for stuck"
        missing = self._find_missing()
        return None if missing is None else f"waiting in {exchange} for {self._still:.0f} s; {missing}"

    @property
    def _deadline(self) -> float:
        return self._watch.deadline_seconds or START_SECONDS

    @property
    def _period(self) -> float:
        return beat_seconds(self._communicator.size, self._deadline)

    def _run(self) -> None:
        passed = 0.0
        while True:
            problem = self.look(passed)
            if problem is not None:
                self._end(problem)
            looked, period = time.monotonic(), self._period if self._watch.holds_folder else _START_PERIOD
            if self._over.wait(period):
                return
            # More would be time in which this process was suspended.
            passed = min(time.monotonic() - looked, 2 * period)

    def _find_missing(self) -> str | None:
        """Return who has not come, or None where that is still to be found out or somebody is at work."""
        if not self._watch.holds_folder:
            return "who has not arrived is not known this early"
        # Low ranks look first, so that thousands of ranks do not read thousands of files at once.
        turn = self._deadline + self._period * self._communicator.rank.bit_length()
        if self._still < max(turn, self._look_at):
            return None
        found = next(((rank, beat.number if beat else 0) for rank, beat in self._missing(1).items()), (_NOBODY, 0))
        if self._suspect is None or found[0] != self._suspect[0]:
            self._suspect, self._look_at = found, self._still + _SILENT_BEATS * self._period
            return None
        if found != self._suspect:  # it lives, and ends the job itself if it is stuck
            self._suspect, self._look_at = None, self._still + self._deadline / 4
            return None
        return _missing_text(self._missing())

    def _missing(self, most: int | None = None) -> dict[int, Beat | None]:
        """Return the last beats of the first `most` ranks that have not come to the exchange that this one waits in."""
        found: dict[int, Beat | None] = {}
        for rank in range(self._communicator.size):
            beat = read_beat(self._folder.path, rank)
            if rank != self._communicator.rank and (beat is None or beat.arrivals < self._watch.arrivals):
                found[rank] = beat
            if len(found) == most:
                break
        return found

    def _end(self, problem: str) -> None:
        """End the job, unless another rank is doing so already."""
        faulthandler.dump_traceback_later(_LAST_SECONDS, exit=True, file=2)
        if not self._may_speak():
            time.sleep(2 * _LAST_SECONDS)
        place = place_text(self._watch.current, self._watch.round, self._watch.group)
        rank = self._communicator.rank
        # Not through sys.stderr, which a stuck thread may hold.
        os.write(2, f"hpcfsl: rank {rank}, phase {place}: {problem}\n".encode())
        faulthandler.dump_traceback(file=2)
        record_failure(self._folder, rank, self._watch, kind="DeadlineExceeded", text=problem)
        with contextlib.suppress(BaseException):
            self._communicator.abort(1)
        os._exit(1)

    def _may_speak(self) -> bool:
        """Return whether this rank is the first to end the job, so that one message says it."""
        if self._communicator.size == 1 or not self._watch.holds_folder:
            return True
        with contextlib.suppress(FileExistsError, OSError):
            os.close(os.open(self._folder.path / FOLDER / "ended", os.O_CREAT | os.O_EXCL))
            return True
        return not (self._folder.path / FOLDER / "ended").exists()


def _missing_text(missing: dict[int, Beat | None]) -> str:
    if not missing:
        return "all ranks have arrived, so a message between them is lost"
    ranks = list(missing)
    named = ", ".join(map(str, ranks[:16])) + (f" and {len(ranks) - 16} more" if len(ranks) > 16 else "")
    last = [
        f"rank {rank} has not been heard of" if beat is None else beat.text()
        for rank, beat in list(missing.items())[:_MOST_NAMED]
    ]
    verb = "rank {} has" if len(ranks) == 1 else "ranks {} have"
    return f"{verb.format(named)} not arrived: {'; '.join(last)}"
