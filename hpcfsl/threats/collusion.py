"""Attackers that know the honest uploads of their group and hide near the centre.

`alie` (Baruch et al., "A little is enough", NeurIPS 2019) moves by `z` honest standard deviations in every coordinate;
`ipm` (Xie et al., "Fall of empires", UAI 2019) uploads a small negative multiple of the honest mean; `mimic`
(Karimireddy et al., ICLR 2022) copies one honest client. Attackers of one group upload the same vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from hpcfsl.threats.threat import Threat, View, threats


@threats.register
class LittleIsEnough(Threat):
    """Upload mean - z * std of the honest updates, coordinate by coordinate."""

    attack: Literal["alie"] = "alie"
    z: float = Field(1.5, ge=0, le=100)
    """Standard deviations from the mean. The paper's formula gives 0 for small cohorts, so it is a setting."""

    def forge(self, view: View) -> torch.Tensor:
        """Return the shifted mean, once per attacker."""
        deviation = view.honest.std(dim=0, correction=0)
        return (view.honest.mean(dim=0) - self.z * deviation).expand_as(view.own)


@threats.register
class InnerProductManipulation(Threat):
    """Upload -epsilon times the mean of the honest updates."""

    attack: Literal["ipm"] = "ipm"
    epsilon: float = Field(0.1, gt=0, le=1000)
    """Factor on the reversed mean."""

    def forge(self, view: View) -> torch.Tensor:
        """Return the reversed mean, once per attacker."""
        return (-self.epsilon * view.honest.mean(dim=0)).expand_as(view.own)


@threats.register
class Mimic(Threat):
    """Upload a copy of the group's first honest client, so that its data count many times."""

    attack: Literal["mimic"] = "mimic"

    def forge(self, view: View) -> torch.Tensor:
        """Return the copied update, once per attacker."""
        return view.honest[0].expand_as(view.own)
