"""What lies between the client half and the server half: the wire that smashed data and cut gradients pass.

Layer 1. A plain `Link` passes everything on as it is, in float32. A compression (`hpcfsl.training.compression`) is a
link that passes on what the other side would decode, and counts what it would have sent. Importing this imports torch.
"""

from __future__ import annotations

from torch import Tensor, nn

NUMBER_BYTES = 4
"""Bytes of a number that crosses as it is, float32."""


class Link(nn.Module):
    """Passes smashed data up and cut gradients down; has no parameters, and treats every sample by itself.

    Tracing keeps it closed, so subclasses may do what they like inside as long as `torch.func.vmap` can batch it.
    """

    def forward(self, smashed: Tensor) -> Tensor:
        """Return the smashed data [samples, *features] as the server sees it."""
        return smashed

    def up_bytes(self, features: int) -> int:
        """Return what one sample's smashed data of so many numbers takes on the wire."""
        return NUMBER_BYTES * features

    def down_bytes(self, features: int) -> int:
        """Return what the cut gradient of one sample's smashed data of so many numbers takes on the wire."""
        return NUMBER_BYTES * features
