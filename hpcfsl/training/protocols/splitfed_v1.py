"""A copy of the server half for every client, both halves averaged (SplitFed of Thapa et al., AAAI 2022, algorithm 1).

With a server copy for each client the arithmetic is that of the unsplit model, whatever the cut, so it differs from
`fedavg` in who sees what and in what is sent.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel
from hpcfsl.training.protocols.protocol import Protocol, protocols
from hpcfsl.training.protocols.wire import FLOAT_BYTES, LABEL_BYTES, WireBytes


@protocols.register
class SplitFedV1(Protocol):
    """A copy of the server half for every client; both halves averaged; labels at the server."""

    name: Literal["splitfed-v1"] = "splitfed-v1"

    @property
    def cuts(self) -> bool:
        """True."""
        return True

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count smashed data, gradients and labels of every sample and epoch, and the client half, up and down."""
        passes = samples * epochs
        labels = passes * (LABEL_BYTES * prod(model.target_shape))
        none = np.zeros(len(samples), np.int64)
        half = np.full(len(samples), FLOAT_BYTES * model.layout.client_size, np.int64)
        return WireBytes(
            smashed_up=passes * model.up_bytes,
            gradients_down=passes * model.down_bytes,
            labels_up=labels,
            outputs_down=none,
            output_gradients_up=none,
            model_up=half,
            model_down=half,
        )
