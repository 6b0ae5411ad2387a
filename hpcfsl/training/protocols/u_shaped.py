"""The server holds the middle of the model: head, tail and labels stay with the client.

The U-shaped configuration of Vepakomma et al., "Split learning for health" (arXiv:1812.00564), with a middle that the
clients of a group train together. Choose it where labels are private too; it sends two more tensors a sample.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.training.protocols.personal import PersonalLayers
from hpcfsl.training.protocols.protocol import protocols
from hpcfsl.training.protocols.shared import SharedServer


@protocols.register
class UShaped(PersonalLayers, SharedServer):
    """The middle of the model at the server, one a group; head and tail averaged; labels with the client."""

    name: Literal["u-shaped"] = "u-shaped"
    tail: str = Field("", max_length=1000)
    """The layer after which the tail begins; empty for the last one that leaves the tail something to train."""

    @property
    def second_cut(self) -> str | None:
        """`tail`."""
        return self.tail

    @property
    def labels_at_server(self) -> bool:
        """False."""
        return False
