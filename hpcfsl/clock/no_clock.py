"""No clock: the default, and no cost."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.clock.clock import Clock, Work, clocks


@clocks.register
class NoClock(Clock):
    """Rounds have no virtual time, clients no device, and nobody is late."""

    rule: Literal["none"] = "none"

    @property
    def is_on(self) -> bool:
        """False."""
        return False

    def client_seconds(self, work: Work, *, seed: int, round: int) -> NDArray[np.float64]:
        """Return NaN."""
        return np.full(len(work.clients), np.nan)

    def across_seconds(self, *, up_bytes: int, down_bytes: int) -> float:
        """Return NaN."""
        return float("nan")
