"""One server half a group, trained on all clients' smashed data as one batch (parallel split learning).

Jeon and Kim, "Privacy-sensitive parallel split learning" (ICOIN 2020). Choose it for a server that trains few large
batches instead of a copy a client: its half takes one step where `splitfed-v1` takes one a client.
"""

from __future__ import annotations

from typing import Literal

from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.shared import SharedServer


@protocols.register
class Parallel(SharedServer):
    """One server half a group, stepping on all its clients' smashed data together; labels at the server."""

    name: Literal["parallel"] = "parallel"
