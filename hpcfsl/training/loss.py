"""The loss of local training: of each sample, averaged over its positions or its numbers where it has several.

Classes, targets int64 [n] with logits [n, classes] or [n, positions] with [n, positions, classes], have cross-entropy.
Numbers, targets float32 [n, outputs] with outputs of the same shape, have one of three: the squared error; the absolute
error, which outliers move less; Huber's (Annals of Mathematical Statistics 35, 1964), squared up to an error of 1 and
absolute beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional

from hpcfsl.training.settings import LossName

_OF_NUMBERS: dict[str, Callable[..., Tensor]] = {
    "auto": functional.mse_loss,
    "squared": functional.mse_loss,
    "absolute": functional.l1_loss,
    "huber": functional.huber_loss,
}


def sample_losses(outputs: Tensor, targets: Tensor, loss: LossName = "auto") -> Tensor:
    """Return the loss of each sample, float32 [n]."""
    losses = _losses(outputs, targets, loss, reduction="none")
    return losses if targets.ndim == 1 else losses.view(targets.shape).flatten(1).mean(1)


def mean_loss(outputs: Tensor, targets: Tensor, loss: LossName = "auto") -> Tensor:
    """Return the mean of `sample_losses`; every sample has as many targets, so it is the mean over all of them."""
    return _losses(outputs, targets, loss, reduction="mean")


def _losses(outputs: Tensor, targets: Tensor, loss: LossName, **options: Any) -> Tensor:
    if targets.is_floating_point():
        return _OF_NUMBERS[loss](outputs.float(), targets, **options)
    return functional.cross_entropy(outputs.flatten(0, -2).float(), targets.flatten(), **options)
