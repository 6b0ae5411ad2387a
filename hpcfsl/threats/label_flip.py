"""Data pollution: attackers train on targets turned upside down, whatever the targets are.

Classes are mirrored, y becomes (classes - 1) - y (Fung et al., RAID 2020). A sequence of symbols has no upside down:
every symbol moves on by one, the last becomes the first (Xie and Lyu, AAAI 2026, have (y + delta) mod classes). Numbers
are mirrored about the median of the attacker's own training targets, one output at a time: an attacker knows no data
but its own. Choose it first of all: it is the commonest attack in the literature, and works in every protocol.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from hpcfsl.data.feed import Samples
from hpcfsl.threats.threat import OwnData, Targets, Threat, threats


@threats.register
class LabelFlip(Threat):
    """Train on mirrored classes, shifted symbols or mirrored numbers."""

    attack: Literal["label-flip"] = "label-flip"

    def poison(self, data: OwnData) -> tuple[Samples, Targets]:
        """Return the inputs as they are and the flipped targets."""
        targets = data.targets
        if not np.issubdtype(targets.dtype, np.integer):
            return data.inputs, _mirror_numbers(data)
        if targets.ndim > 1:
            return data.inputs, (targets + 1) % data.num_classes
        return data.inputs, data.num_classes - 1 - targets


def _mirror_numbers(data: OwnData) -> Targets:
    flipped = data.targets.copy()
    for rows in data.slices:
        flipped[rows] = 2 * np.median(data.targets[rows], axis=0) - data.targets[rows]
    return flipped
