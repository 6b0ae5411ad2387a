"""One server half a group, which the clients train in turn (SplitFed of Thapa et al., AAAI 2022, algorithm 2).

Choose it where the server has no room for a copy a client. Only client halves train in parallel, so a round lasts as
long as all clients of a group together, and the server half takes n times the steps of `splitfed-v1`.
"""

from __future__ import annotations

from typing import Literal

from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.shared import SharedServer


@protocols.register
class SplitFedV2(SharedServer):
    """One server half a group, trained by its clients in turn, in a new order each round; labels at the server."""

    name: Literal["splitfed-v2"] = "splitfed-v2"

    @property
    def in_turn(self) -> bool:
        """True."""
        return True
