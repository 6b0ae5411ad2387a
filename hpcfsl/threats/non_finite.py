"""Broken or hostile clients that upload NaN, infinity or huge numbers."""

from __future__ import annotations

from typing import Literal

import torch

from hpcfsl.threats.threat import Threat, View, threats

VALUES = {"nan": float("nan"), "infinity": float("inf"), "huge": 1e30}


@threats.register
class NonFinite(Threat):
    """Upload a constant that poisons every careless sum."""

    attack: Literal["non-finite"] = "non-finite"
    value: Literal["nan", "infinity", "huge"] = "nan"
    """What every coordinate becomes; `huge` is 1e30, finite but larger than float32 can square."""

    def forge(self, view: View) -> torch.Tensor:
        """Return the constant."""
        return torch.full_like(view.own, VALUES[self.value])
