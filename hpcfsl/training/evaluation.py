"""Testing the global model: accuracy and loss on a batch of samples."""

from __future__ import annotations

import torch
from torch.nn import functional

from hpcfsl.models.split import SplitModel


def evaluate(
    model: SplitModel, weights: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[int, float]:
    """Return how many classes are predicted correctly (0 for numbers), and the sum of the losses in float64.

    Args:
        model: The model.
        weights: Its parameters, float32 [params].
        inputs: Samples, [samples, ...].
        targets: Their classes, [samples], or [samples, positions]: then every position counts. Or float32 numbers,
            [samples, outputs]: the loss is the squared error, summed over samples and outputs.
    """
    with torch.no_grad():
        logits = model.forward(model.layout.unflatten(weights), inputs)
        if targets.is_floating_point():
            return 0, float((logits.double() - targets).square().sum())
        losses = functional.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").double()
        # Added up in order by numpy-like pairwise sums of a fixed shape: the same bits for the same shard.
        return int((logits.argmax(dim=-1) == targets).sum()), float(losses.sum())
