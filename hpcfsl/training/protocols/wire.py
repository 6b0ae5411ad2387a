"""What crosses the wires between a client and its group's servers, by kind and direction."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel

FLOAT_BYTES = 4
LABEL_BYTES = 8
"""Bytes of a class; a number that is to be predicted has `FLOAT_BYTES`."""


def label_bytes(model: SplitModel) -> int:
    """Return the bytes of what is true about one sample: classes, or numbers."""
    return prod(model.target_shape) * (FLOAT_BYTES if model.predicts == "numbers" else LABEL_BYTES)


@dataclass(frozen=True, kw_only=True)
class WireBytes:
    """Bytes between each client and its group's servers in one round, int64 [clients] each, by kind and direction.

    Attributes:
        smashed_up: Smashed data.
        gradients_down: Gradients at the cut.
        labels_up: Labels, where the server holds them.
        outputs_down: What the server's part made, for a tail at the client.
        output_gradients_up: Gradients of that.
        model_up: The client's parts of the model.
        model_down: The same.
    """

    smashed_up: NDArray[np.int64]
    gradients_down: NDArray[np.int64]
    labels_up: NDArray[np.int64]
    outputs_down: NDArray[np.int64]
    output_gradients_up: NDArray[np.int64]
    model_up: NDArray[np.int64]
    model_down: NDArray[np.int64]

    @property
    def up(self) -> NDArray[np.int64]:
        """All bytes from the client, int64 [clients]."""
        return self.smashed_up + self.labels_up + self.output_gradients_up + self.model_up

    @property
    def down(self) -> NDArray[np.int64]:
        """All bytes to the client, int64 [clients]."""
        return self.gradients_down + self.outputs_down + self.model_down
