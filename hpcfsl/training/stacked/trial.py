"""Trying a stacked step before it is used: two clients with different weights, against one client after the other.

It depends on the model alone, so every rank comes to the same end. It times nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import mean_loss
from hpcfsl.training.settings import LossName
from hpcfsl.training.stacked.graph import UnstackableError

_TOLERANCE = 0.02
"""Largest difference over the largest gradient: above what TF32 rounds away, below what another sample changes."""

Step = Callable[[Sequence[Tensor], Tensor, Tensor, Tensor | None, Sequence[Tensor]], tuple[Tensor, tuple[Tensor, ...]]]


def try_step(step: Step, model: SplitModel, device: torch.device, loss: LossName = "auto") -> None:
    """Check that a step of two clients gives the gradients of each alone.

    Raises:
        UnstackableError: It does not, or cannot be computed.
    """
    start = model.initial_weights(0)
    flats = [start, 0.5 * start.flip(0) + 0.01]
    inputs = [model.trial, model.trial[[1, 1]]]  # what mixes samples sees another mix
    targets = torch.zeros(2, *model.target_shape, dtype=torch.float32 if model.predicts == "numbers" else torch.int64)
    wanted = [_gradient(model, flat, batch, targets, loss) for flat, batch in zip(flats, inputs, strict=True)]
    named = model.layout.unflatten(torch.stack(flats).to(device))
    leaves = [weight.contiguous().requires_grad_() for weight in named.values()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, found = step(leaves, torch.cat(inputs).to(device), torch.cat([targets] * 2).to(device), None, ())
    except Exception as error:  # whatever the module's own code raises
        raise UnstackableError(f"it cannot be run stacked ({_first_line(error)})") from error
    both = torch.cat([gradient.reshape(2, -1) for gradient in found], dim=1).cpu()
    for row, want in zip(both, wanted, strict=True):
        if not torch.allclose(row, want, rtol=0.0, atol=_TOLERANCE * float(want.abs().max()) + 1e-12):
            raise UnstackableError("stacked it computes something else: does it mix samples?")


def _gradient(model: SplitModel, flat: Tensor, inputs: Tensor, targets: Tensor, loss_name: LossName) -> Tensor:
    leaf = flat.clone().requires_grad_()
    loss = mean_loss(model.forward(model.layout.unflatten(leaf), inputs), targets, loss_name)
    return torch.autograd.grad(loss, leaf, materialize_grads=True)[0]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
