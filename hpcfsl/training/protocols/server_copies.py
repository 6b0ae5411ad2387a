"""What the protocols have in common in which each client has a copy of the server half of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import NO_CUT, SplitModel
from hpcfsl.training.protocols.protocol import Protocol
from hpcfsl.training.protocols.wire import WireBytes, label_bytes


class ServerCopies(Protocol):
    """A protocol with a copy of the server half for every client, averaged, and labels at the server."""

    @property
    def cuts(self) -> bool:
        """True."""
        return True

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count smashed data, gradients and labels of every sample and epoch, and what is averaged, up and down.

        Of a model that is not cut, the client computes everything itself and sends what is averaged alone.
        """
        passes = samples * epochs * (model.cut != NO_CUT)
        labels = passes * label_bytes(model)
        none = np.zeros(len(samples), np.int64)
        averaged = np.full(len(samples), self.averaged_bytes(model), np.int64)
        return WireBytes(
            smashed_up=passes * model.up_bytes,
            gradients_down=passes * model.down_bytes,
            labels_up=labels,
            outputs_down=none,
            output_gradients_up=none,
            model_up=averaged,
            model_down=averaged,
        )
