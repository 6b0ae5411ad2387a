"""What can happen to a client in a round. numpy only, as rules that draw faults need nothing else."""

from __future__ import annotations

from enum import IntEnum


class Fault(IntEnum):
    """The one fault of a client in a round; values as in the trace."""

    NONE = 0
    DROPPED_BEFORE = 1
    """It never starts: nothing is sent to it or by it."""
    DROPPED_DURING = 2
    """It leaves after some of its local steps."""
    DROPPED_AFTER = 3
    """It does everything, and its upload is lost on the way."""
    LATE = 4
    """Its upload arrives after the deadline and is thrown away. Set by the clock, never by a rule."""
    NAN = 5
    """Its upload arrives with NaN in it."""
    INFINITY = 6
    """Its upload arrives with infinity in it."""
    HUGE = 7
    """Its upload arrives with 1e30 in it: finite, but larger than float32 can square."""


DROPPED = (Fault.DROPPED_BEFORE, Fault.DROPPED_DURING, Fault.DROPPED_AFTER)
"""The client is gone, whatever the clock says."""
LOST = (*DROPPED, Fault.LATE)
"""Nothing of the client's upload reaches its group."""
