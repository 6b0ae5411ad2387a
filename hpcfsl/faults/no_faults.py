"""No faults: the default."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.faults.faults import Faults, faults


@faults.register
class NoFaults(Faults):
    """Every client does what it should, and every upload arrives."""

    rule: Literal["none"] = "none"

    def draw(
        self, clients: NDArray[np.int64], factors: NDArray[np.float64], *, seed: int, round: int
    ) -> NDArray[np.int8]:
        """Return no fault for anybody."""
        return np.zeros(len(clients), np.int8)
