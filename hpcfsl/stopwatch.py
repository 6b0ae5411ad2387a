"""What one rank is doing: its phase, round and group, and the time that each phase took.

Layer 0. The rank itself writes here as it goes; the trace takes the seconds, a failure the place where it happened, and
the watchdog (`hpcfsl.parallel.watchdog`) sees from `steps` whether the rank still gets on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("train", "score", "gather", "aggregate", "evaluate", "record", "other", "undo")


class Stopwatch:
    """Adds up seconds by phase; phases do not nest.

    Args:
        deadline_seconds: How long one step may take; None leaves the watchdog its own choice.

    Attributes:
        current: The phase, or what the rank does outside of the timed ones: "start", "build", "commit", "end".
        round: The round; None before the first.
        group: The group that the rank works on; None outside of one.
        exchange: The exchange with the other ranks that this one waits in; None outside of one.
        arrivals: Exchanges that this rank has come to. The ranks come to all of them in one order.
        steps: Grows whenever any of the above changes.
        holds_folder: Whether the run folder belongs to this job, so that heartbeats and failures may be written there.
        seconds: Seconds by phase since `take`.
    """

    def __init__(self, deadline_seconds: float | None = None) -> None:
        self.deadline_seconds = deadline_seconds
        self.current = "start"
        self.round: int | None = None
        self.group: int | None = None
        self.exchange: str | None = None
        self.arrivals = self.steps = 0
        self.holds_folder = False
        self.seconds: dict[str, float] = {}

    def set_deadline(self, deadline_seconds: float) -> None:
        """Set how long one step may take."""
        self.deadline_seconds = deadline_seconds

    def enter(self, name: str) -> None:
        """Say what the rank does from here on, outside of the timed phases."""
        self.current = name
        self.steps += 1

    @contextmanager
    def phase(self, name: str, *, called: str | None = None) -> Iterator[None]:
        """Time what happens inside as phase `name`, one of `PHASES`; a failure in it names the phase `called`."""
        assert name in PHASES
        before = self.current
        self.enter(called or name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.enter(before)  # not after an exception: the failure names the phase

    @contextmanager
    def in_group(self, group: int) -> Iterator[None]:
        """Name the group that is worked on inside."""
        self.group = group
        yield
        self.group = None  # not after an exception either

    @contextmanager
    def at_exchange(self, name: str) -> Iterator[None]:
        """Say that this rank has come to an exchange with the others, and waits for them inside."""
        self.exchange, self.arrivals, self.steps = name, self.arrivals + 1, self.steps + 1
        try:
            yield
        finally:
            self.exchange, self.steps = None, self.steps + 1

    def take(self) -> dict[str, float]:
        """Return the seconds by phase since the last call, and start again."""
        taken, self.seconds = self.seconds, {}
        return taken
