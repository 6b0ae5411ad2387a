"""Smashed-data poisoning: attackers move all that they send up the same way, in every local step and every round.

All attackers of a run share one direction, plus or minus one in every feature, so their harm adds up where noise
averages out. Choose it beside `smashed-noise`: it moves means and leaves the spread as it was.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.seeding import Purpose, random_words
from hpcfsl.threats.smashed import SmashedThreat, typical_size
from hpcfsl.threats.threat import threats


@threats.register
class SmashedShift(SmashedThreat):
    """Add one direction, the same for all attackers and rounds, to the smashed data of each step."""

    attack: Literal["smashed-shift"] = "smashed-shift"
    scale: float = Field(3.0, gt=0, le=1e6)
    """Shift of each feature, in root mean squares of the attacker's smashed data of the step."""

    def poison_smashed(
        self, smashed: torch.Tensor, *, seed: int, round: int, clients: NDArray[np.int64], step: int
    ) -> torch.Tensor:
        """Return the shifted smashed data, float [attackers, batch, *smashed_shape]."""
        words = random_words(seed, Purpose.SMASHED, round=0, entity=0, count=smashed[0, 0].numel())
        direction = torch.from_numpy(words % 2 * 2.0 - 1.0).to(smashed.device, smashed.dtype).view_as(smashed[0, 0])
        return smashed + self.scale * typical_size(smashed) * direction
