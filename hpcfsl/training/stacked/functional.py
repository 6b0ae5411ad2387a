"""One local step of many clients by `torch.func`: for modules that `graph` cannot stack.

Slower than stacked layers, and any module that `torch.func.vmap` can batch will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.precision import autocast
from hpcfsl.training.settings import TrainingSettings


class FunctionalStep:
    """The forward and backward pass of a step; arguments and calls as those of `graph.GraphStep`."""

    def __init__(self, model: SplitModel, settings: TrainingSettings, device: torch.device) -> None:
        self._settings, self._device, self._layout = settings, device, model.layout
        halves = model.pieces().to(device).train()
        client, server = halves.get_submodule("client"), halves.get_submodule("server")
        tail = halves.get_submodule("tail") if model.has_tail else model.tail
        self._model = replace(model, client_half=client, server_half=server, tail=tail)
        self.dropouts = [layer for layer in halves.modules() if isinstance(layer, KeyedDropout)]
        self._step = torch.func.vmap(torch.func.grad_and_value(self._loss))

    def __call__(
        self,
        weights: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        shares: Tensor | None,
        masks: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of each client, float32 [clients], and its gradients, [clients, *shape] a parameter."""
        lead = (len(weights[0]), -1)
        named = {name: weight.detach() for name, weight in zip(self._layout.names, weights, strict=True)}
        inputs, targets = inputs.unflatten(0, lead), targets.unflatten(0, lead)
        if shares is None:
            shares = torch.full(inputs.shape[:2], 1.0 / inputs.shape[1], device=self._device)
        gradients, losses = self._step(named, inputs, targets, shares, [mask.unflatten(0, lead) for mask in masks])
        return losses, tuple(gradients[name] for name in self._layout.names)

    def _loss(
        self, weights: dict[str, Tensor], inputs: Tensor, targets: Tensor, shares: Tensor, masks: list[Tensor]
    ) -> Tensor:
        for layer, mask in zip(self.dropouts, masks, strict=False):
            layer.mask = mask
        with autocast(self._settings, self._device):
            losses = sample_losses(self._model.forward(weights, inputs), targets, self._settings.loss)
        for layer in self.dropouts:
            layer.mask = None  # a tensor of vmap's must not live longer than the call
        return (losses * shares).sum()
