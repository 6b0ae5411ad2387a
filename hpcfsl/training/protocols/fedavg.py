"""No split at all: every client trains the whole model (McMahan et al., AISTATS 2017)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel
from hpcfsl.training.protocols.personal import PersonalLayers
from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.wire import WireBytes


@protocols.register
class FedAvg(PersonalLayers):
    """No cut: every client trains the whole model and sends it. The baseline without split learning."""

    name: Literal["fedavg"] = "fedavg"

    @property
    def cuts(self) -> bool:
        """False."""
        return False

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count the whole model less its personal layers, up and down."""
        averaged = np.full(len(samples), self.averaged_bytes(model), np.int64)
        none = np.zeros(len(samples), np.int64)
        return WireBytes(
            smashed_up=none,
            gradients_down=none,
            labels_up=none,
            outputs_down=none,
            output_gradients_up=none,
            model_up=averaged,
            model_down=averaged,
        )
