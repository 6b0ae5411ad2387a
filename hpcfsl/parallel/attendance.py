"""A communicator that notes on a stopwatch when its rank comes to an exchange and when it leaves it.

Layer 3. What the ranks note is how the watchdog can tell who has not come (`hpcfsl.parallel.watchdog`).
"""

from __future__ import annotations

from typing import Any, cast

from hpcfsl.parallel.communicator import Communicator
from hpcfsl.stopwatch import Stopwatch


def attended(communicator: Communicator, watch: Stopwatch) -> Communicator:
    """Return `communicator` with every exchange noted on `watch`."""
    return cast(Communicator, _Attended(communicator, watch))


class _Attended:
    """Passes everything on, so that no method of a communicator can be forgotten here."""

    def __init__(self, communicator: Communicator, watch: Stopwatch) -> None:
        self._communicator, self._watch = communicator, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._communicator, name)
        if not callable(found) or name == "abort":
            return found

        def exchange(*arguments: Any, **named: Any) -> Any:
            with self._watch.at_exchange(name):
                return found(*arguments, **named)

        return exchange
