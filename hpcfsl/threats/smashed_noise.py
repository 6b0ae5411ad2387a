"""Smashed-data poisoning: attackers drown what they send up in noise, in every local step.

A smashed-data poisoning `z + delta` in the words of HealSplit (Xie and Lyu, AAAI 2026). The server half learns that
smashed data say nothing about labels; the attacker's own half gets the cut gradient of what it sent. Choose it to test
protocols whose clients share a server half; with a server copy for each client only the attacker's own copy suffers,
and its update carries the harm.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.seeding import Purpose, random_normal
from hpcfsl.threats.smashed import SmashedThreat, typical_size
from hpcfsl.threats.threat import threats


@threats.register
class SmashedNoise(SmashedThreat):
    """Add Gaussian noise to the smashed data of each step."""

    attack: Literal["smashed-noise"] = "smashed-noise"
    scale: float = Field(3.0, gt=0, le=1e6)
    """Standard deviation of the noise, in root mean squares of the attacker's smashed data of the step."""

    def poison_smashed(
        self, smashed: torch.Tensor, *, seed: int, round: int, clients: NDArray[np.int64], step: int
    ) -> torch.Tensor:
        """Return the noisy smashed data, float [attackers, batch, *smashed_shape]."""
        count = smashed[0].numel()
        noise = random_normal(seed, Purpose.SMASHED, round=round, entity=clients, count=count, lane=step)
        factors = torch.from_numpy(noise).to(smashed.device, smashed.dtype).view_as(smashed)
        return smashed + self.scale * typical_size(smashed) * factors
