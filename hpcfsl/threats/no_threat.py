"""Nobody attacks: the run that every attack is compared with."""

from __future__ import annotations

from typing import Literal

from hpcfsl.threats.threat import Threat, threats


@threats.register
class NoThreat(Threat):
    """Every client is honest."""

    attack: Literal["none"] = "none"
    clients: Literal[0] = 0
    """Nobody attacks."""
