"""Keeping the largest numbers of each sample: the link of `sparse`. Importing this module imports torch."""

from __future__ import annotations

import torch
from torch import Tensor

from hpcfsl.models.link import NUMBER_BYTES, Link
from hpcfsl.training.compression.sparse import num_kept, place_bytes


class SparseLink(Link):
    """Passes on the largest numbers of each sample, and zero in the places of the others.

    Args:
        share: How many are kept, of all.
        gradients: Whether the cut gradients of the others are zero; they pass as they are otherwise.
    """

    def __init__(self, share: float, *, gradients: bool) -> None:
        super().__init__()
        self.share, self.gradients = share, gradients

    def forward(self, smashed: Tensor) -> Tensor:
        """Return smashed data [samples, *features] with all but the largest numbers zero."""
        kept = largest(smashed.detach(), self.share)
        # The second way is zero too, but with the gradient of the number itself.
        other = torch.zeros_like(smashed) if self.gradients else smashed - smashed.detach()
        return smashed.where(kept, other)

    def up_bytes(self, features: int) -> int:
        """Return the bytes of the numbers that are kept and of their places."""
        kept = num_kept(features, self.share)
        return NUMBER_BYTES * kept + place_bytes(features, kept)

    def down_bytes(self, features: int) -> int:
        """Return the bytes of the gradients of the numbers that came, or of all."""
        return NUMBER_BYTES * (num_kept(features, self.share) if self.gradients else features)


def largest(values: Tensor, share: float) -> Tensor:
    """Return which numbers of [samples, *features] are among a sample's largest, bool of the same shape.

    Of equal ones the first; a NaN is larger than all.
    """
    rows = values.reshape(values.shape[0], -1).abs()
    rows = rows.nan_to_num(nan=float("inf"), posinf=float("inf"))
    kept = num_kept(rows.shape[1], share)
    least = rows.topk(kept, dim=1, sorted=True).values[:, -1:]
    above, equal = rows > least, rows == least
    room = kept - above.sum(dim=1, keepdim=True)
    return (above | (equal & (equal.cumsum(dim=1) <= room))).reshape(values.shape)
