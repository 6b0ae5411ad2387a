"""A copy of the server half for every client, both halves averaged (SplitFed of Thapa et al., AAAI 2022, algorithm 1).

With a server copy for each client the arithmetic is that of the unsplit model, whatever the cut, so it differs from
`fedavg` in who sees what and in what is sent.
"""

from __future__ import annotations

from typing import Literal

from hpcfsl.training.protocols.device_cuts import DeviceCuts
from hpcfsl.training.protocols.personal import PersonalLayers
from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.server_copies import ServerCopies


@protocols.register
class SplitFedV1(DeviceCuts, PersonalLayers, ServerCopies):
    """A copy of the server half for every client; both halves averaged; labels at the server."""

    name: Literal["splitfed-v1"] = "splitfed-v1"
