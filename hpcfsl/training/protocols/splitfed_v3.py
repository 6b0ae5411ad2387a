"""A copy of the server half for every client, averaged; each client half stays with its client (SplitFed, version 3).

Gawali et al., "Comparison of privacy-preserving distributed deep learning methods in healthcare" (MIUA 2021). Choose it
where clients' inputs differ, such as by scanner or by writer: each learns a front end of its own, and nothing of the
client half is ever sent. A client that was never trained has no half of its own.
"""

from __future__ import annotations

from typing import Literal

from hpcfsl.errors import ConfigError
from hpcfsl.models.layout import Layout
from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.server_copies import ServerCopies


@protocols.register
class SplitFedV3(ServerCopies):
    """A copy of the server half for every client, averaged; client halves stay with clients; labels at the server."""

    name: Literal["splitfed-v3"] = "splitfed-v3"

    def personal_names(self, layout: Layout) -> tuple[str, ...]:
        """Return the client half.

        Raises:
            ConfigError: There is no server half.
        """
        if layout.client_size == layout.size:
            raise ConfigError("model.cut", "none", "leaves protocol 'splitfed-v3' nothing to share; cut the model")
        return tuple(name for name in layout.names if name.startswith("client."))
