"""Gradient reversal: attackers upload the negative of their honest update, scaled (Li et al., RSA, AAAI 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from hpcfsl.threats.threat import Threat, View, threats


@threats.register
class SignFlip(Threat):
    """Upload `-scale` times the honest update."""

    attack: Literal["sign-flip"] = "sign-flip"
    scale: float = Field(1.0, gt=0, le=1e30)
    """Factor on the reversed update; 1 keeps its norm."""

    def forge(self, view: View) -> torch.Tensor:
        """Return the reversed, scaled updates."""
        return -self.scale * view.own
