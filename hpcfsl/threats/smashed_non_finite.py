"""Broken or hostile clients that send NaN, infinity or huge numbers up in the place of their smashed data.

One such batch turns a shared server half to NaN. Choose it to see that nothing careless sums or trains on it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.threats.non_finite import VALUES
from hpcfsl.threats.smashed import SmashedThreat
from hpcfsl.threats.threat import threats


@threats.register
class SmashedNonFinite(SmashedThreat):
    """Send a constant that poisons every careless step."""

    attack: Literal["smashed-non-finite"] = "smashed-non-finite"
    value: Literal["nan", "infinity", "huge"] = "nan"
    """What every number becomes; `huge` is 1e30, finite but larger than float32 can square."""

    def poison_smashed(
        self, smashed: torch.Tensor, *, seed: int, round: int, clients: NDArray[np.int64], step: int
    ) -> torch.Tensor:
        """Return the constant, float [attackers, batch, *smashed_shape]."""
        return torch.full_like(smashed, VALUES[self.value])
