"""Time by phase on one rank, and the deadline of each phase.

Layer 0. A phase that outlasts the deadline is taken for stuck (a lost message, a dead rank): `faulthandler` then prints
every thread's stack and ends the process, and the launcher ends the others.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("train", "score", "gather", "aggregate", "evaluate", "record", "other")


class Stopwatch:
    """Adds up seconds by phase; phases do not nest.

    Args:
        deadline_seconds: How long one phase may take; None sets no deadline.
    """

    def __init__(self, deadline_seconds: float | None = None) -> None:
        self._deadline = deadline_seconds
        self.current = "other"
        self.seconds: dict[str, float] = {}

    def set_deadline(self, deadline_seconds: float) -> None:
        """Set how long one phase may take, from the next phase on."""
        self._deadline = deadline_seconds

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside as phase `name`, one of `PHASES`."""
        assert name in PHASES
        before, self.current = self.current, name
        started = time.perf_counter()
        self._arm()
        try:
            yield
        finally:
            if self._deadline is not None:
                faulthandler.cancel_dump_traceback_later()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.current = before  # left as it is after an exception: the failure record names the phase

    def take(self) -> dict[str, float]:
        """Return the seconds by phase since the last call, and start again."""
        taken, self.seconds = self.seconds, {}
        return taken

    def _arm(self) -> None:
        if self._deadline is not None:
            # The process's own stderr: a notebook's replacement of it is no file that a signal handler could write to.
            faulthandler.dump_traceback_later(self._deadline, exit=True, file=sys.__stderr__ or 2)
