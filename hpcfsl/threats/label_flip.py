"""Data pollution: attackers train on flipped labels, y becomes (classes - 1) - y (Fung et al., RAID 2020)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.feed import Samples
from hpcfsl.threats.threat import Threat, threats


@threats.register
class LabelFlip(Threat):
    """Train on mirrored labels."""

    attack: Literal["label-flip"] = "label-flip"

    def poison(
        self, inputs: Samples, targets: NDArray[np.int64], *, num_classes: int
    ) -> tuple[Samples, NDArray[np.int64]]:
        """Return the inputs as they are and the mirrored labels."""
        return inputs, num_classes - 1 - targets
