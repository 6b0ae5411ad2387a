"""Only the largest numbers of each sample cross: as few bytes as the model bears.

Top-k by magnitude, as for gradients in "Deep gradient compression" (Lin et al., ICLR 2018) and for smashed data in
"Reducing communication for split learning by randomized top-k sparsification" (Zheng et al., IJCAI 2023), whose random
choice of further numbers is left out. The cut gradient of a number that never came is zero, so with `gradients` only
those of the numbers that came go down, at places that the client knows; this is the gradient of what was computed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpcfsl.training.compression.compression import Compression, compressions

if TYPE_CHECKING:
    from hpcfsl.models.link import Link


@compressions.register
class TopK(Compression):
    """Only the largest numbers of each sample cross, with their places."""

    rule: Literal["top-k"] = "top-k"
    share: float = Field(0.25, gt=0, le=1)
    """Share of a sample's numbers that is kept, the largest by magnitude; at least one number."""
    gradients: bool = True
    """Cut gradients go down for the numbers that came, and are zero elsewhere; if false, all of them go down."""

    def link(self) -> Link:
        """Return a link that keeps `share` of the numbers."""
        from hpcfsl.training.compression.largest import SparseLink

        return SparseLink(self.share, gradients=self.gradients)


def num_kept(features: int, share: float) -> int:
    """Return how many of a sample's numbers cross."""
    return min(features, max(1, math.ceil(share * features - 1e-9)))


def place_bytes(features: int, kept: int) -> int:
    """Return what the places of `kept` of `features` numbers take: whole-byte indices, or a bit for every number.

    Whichever is shorter; nothing where all numbers are kept.
    """
    if kept == features:
        return 0
    index = -(-max(1, (features - 1).bit_length()) // 8)
    return min(kept * index, -(-features // 8))
