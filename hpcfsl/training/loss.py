"""The loss of local training: cross-entropy of each sample, averaged over its positions where it has several.

Logits are [n, classes] with targets int64 [n], or [n, positions, classes] with targets int64 [n, positions].
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def sample_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each sample, float32 [n]."""
    losses = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return losses if targets.ndim == 1 else losses.view(targets.shape).flatten(1).mean(1)


def mean_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of `sample_losses`; every sample has as many positions, so it is the mean over all of them."""
    return functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())
