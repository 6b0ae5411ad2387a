"""What crosses the wires between a client and its group's servers, by kind and direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOAT_BYTES = 4
LABEL_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class WireBytes:
    """Bytes between each client and its group's servers in one round, int64 [clients] each, by kind and direction."""

    smashed_up: NDArray[np.int64]
    gradients_down: NDArray[np.int64]
    labels_up: NDArray[np.int64]
    model_up: NDArray[np.int64]
    model_down: NDArray[np.int64]

    @property
    def up(self) -> NDArray[np.int64]:
        """All bytes from the client, int64 [clients]."""
        return self.smashed_up + self.labels_up + self.model_up

    @property
    def down(self) -> NDArray[np.int64]:
        """All bytes to the client, int64 [clients]."""
        return self.gradients_down + self.model_down
