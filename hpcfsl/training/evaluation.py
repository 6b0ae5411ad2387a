"""Testing a model: what it predicts for a batch of samples, and the loss of each."""

from __future__ import annotations

import torch
from torch.nn import functional

from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.metrics import Predictions
from hpcfsl.training.settings import LossName


def predict(
    model: SplitModel,
    weights: torch.Tensor,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    loss: LossName = "auto",
) -> Predictions:
    """Return what a model predicts, and the losses in float64.

    Args:
        model: The model.
        weights: Its parameters, float32 [params].
        inputs: Samples, [samples, ...].
        targets: Their classes, int64 [samples] or [samples, positions], or numbers, float32 [samples, outputs].
        loss: That of training.
    """
    with torch.no_grad():
        outputs = model.forward(model.layout.unflatten(weights), inputs)
        if targets.is_floating_point():
            losses = sample_losses(outputs, targets, loss).double()
            outputs, targets = outputs.double(), targets.double()
        else:
            losses = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none").double()
            losses, outputs = losses.view(len(targets), -1).sum(dim=1), outputs.argmax(dim=-1)
    return Predictions(outputs=outputs.cpu().numpy(), targets=targets.cpu().numpy(), losses=losses.cpu().numpy())


def evaluate(
    model: SplitModel, weights: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor
) -> tuple[int, float]:
    """Return how many classes are predicted correctly (0 for numbers), and the sum of the losses.

    Arguments are those of `predict`; where samples have several positions, every position counts.
    """
    found = predict(model, weights, inputs, targets)
    return 0 if found.has_numbers else int((found.outputs == found.targets).sum()), float(found.losses.sum())
