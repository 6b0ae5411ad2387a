"""A step of all its clients at once, on stacked layers. Choose it on a GPU, and on a CPU for small dense layers.

Each client has the server half's weights to itself, as if it had a copy, so that its own gradient of them comes out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.precision import autocast
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared.loop import replaced
from hpcfsl.training.shared.step import Found, Received, Send, Step, Takers
from hpcfsl.training.stacked.graph import places_of, stack_layers
from hpcfsl.training.stacked.trial import try_step


class StackedPass:
    """Runs the clients of a step together; see `step.Pass`.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.

    Raises:
        UnstackableError: The model cannot be stacked.
    """

    name = "stacked"
    detail = ""

    def __init__(self, model: SplitModel, settings: TrainingSettings, device: torch.device) -> None:
        self._settings, self._device, self._has_tail = settings, device, model.has_tail
        pieces = model.pieces().to(device).train()
        places = places_of(pieces, model)
        made = {name: stack_layers(part, places) for name, part in pieces.named_children() if name != "link"}
        self._parts = {name: part for name, (part, _) in made.items()}
        self._bound = [layer for _, layers in made.values() for layer in layers]
        self._link = dict(pieces.named_children()).get("link")
        self._first_server = len([name for name in model.layout.names if not name.startswith("server.")])
        self._dropouts = [layer for part in self._parts.values() for layer in _dropouts(part)]
        self._server_dropouts = _dropouts(self._parts["server"])
        try_step(self._try, model, device, settings.loss)

    def run(self, weights: Sequence[Tensor], step: Step) -> Found:
        """Return what a step gives."""
        return self._run(weights, step, step.takers.masks(self._dropouts, self._device))

    def run_server(self, weights: Sequence[Tensor], received: Received) -> list[Tensor]:
        """Return the gradients of the server half alone."""
        leaves = self._bind([*[weights[0]] * self._first_server, *weights])[self._first_server :]
        _set_masks(self._server_dropouts, received.takers.masks(self._server_dropouts, self._device))
        shares = _shares(received.takers, self._device)
        with autocast(self._settings, self._device):
            returned = self._parts["server"](received.smashed)
            if not self._has_tail:
                each = sample_losses(returned, received.answers, self._settings.loss)
                total = _means(each, shares, len(received.takers)).sum()
        if self._has_tail:
            return list(torch.autograd.grad(returned, leaves, received.answers, materialize_grads=True))
        return list(torch.autograd.grad(total, leaves, materialize_grads=True))

    def smash(self, weights: Sequence[Tensor], inputs: Tensor, send: Send | None) -> Tensor:
        """Return the smashed data of one client as the server sees them."""
        self._bind(weights)
        _set_masks(self._dropouts, [])
        with torch.no_grad(), autocast(self._settings, self._device):
            smashed: Tensor = self._parts["client"](inputs)
            return self._pass_on(smashed if send is None else send(smashed))

    def _run(self, weights: Sequence[Tensor], step: Step, masks: Sequence[Tensor]) -> Found:
        leaves = self._bind(weights)
        _set_masks(self._dropouts, masks)
        shares = _shares(step.takers, self._device)
        with autocast(self._settings, self._device):
            received = self._pass_on(self._sent(self._parts["client"](step.inputs), step))
            returned = self._parts["server"](received)
            outputs = self._parts["tail"](returned) if self._has_tail else returned
            losses = _means(sample_losses(outputs, step.targets, self._settings.loss), shares, len(step.takers))
        gradients = torch.autograd.grad(losses.sum(), [*leaves, returned], materialize_grads=True)
        answers = gradients[-1] if self._has_tail else step.targets
        passed = Received(takers=step.takers, smashed=received.detach(), answers=answers)
        return Found(losses=losses.detach(), gradients=gradients[:-1], received=passed)

    def _sent(self, smashed: Tensor, step: Step) -> Tensor:
        if not step.senders:
            return smashed
        rooms = list(smashed.split(step.takers.width))
        for place, send in step.senders.items():
            room, size = rooms[place], int(step.takers.sizes[place])
            sent = replaced(room[:size], send(room[:size].detach()))
            rooms[place] = torch.cat([sent, room[size:]])  # what pads the room is nothing that a client has seen
        return torch.cat(rooms)

    def _pass_on(self, smashed: Tensor) -> Tensor:
        return smashed if self._link is None else self._link(smashed)

    def _bind(self, weights: Sequence[Tensor]) -> list[Tensor]:
        leaves = [weight.detach().contiguous().requires_grad_() for weight in weights]
        for layer in self._bound:
            layer.bind(leaves)
        return leaves

    def _try(
        self,
        weights: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        shares: Tensor | None,
        masks: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        count = len(weights[0])
        width = len(inputs) // count
        numbers, sizes = np.zeros(count, np.int64), np.full(count, width)
        takers = Takers(rows=numbers, clients=numbers, numbers=numbers, sizes=sizes, width=width, seed=0, round=0)
        found = self._run(weights, Step(takers=takers, inputs=inputs, targets=targets, senders={}), masks)
        return found.losses, tuple(found.gradients)


def _dropouts(module: nn.Module) -> list[KeyedDropout]:
    return [layer for layer in module.modules() if isinstance(layer, KeyedDropout)]


def _set_masks(dropouts: Sequence[KeyedDropout], masks: Sequence[Tensor]) -> None:
    for number, layer in enumerate(dropouts):
        layer.mask = masks[number] if masks else None


def _shares(takers: Takers, device: torch.device) -> Tensor | None:
    """Return each sample's part in its client's mean loss, [active, width]; None where all rooms are full."""
    if (takers.sizes == takers.width).all():
        return None
    sizes = takers.sizes[:, None]
    parts = (np.arange(takers.width) < sizes) / sizes
    return torch.from_numpy(parts.astype(np.float32)).to(device)


def _means(losses: Tensor, shares: Tensor | None, clients: int) -> Tensor:
    each = losses.view(clients, -1)
    return each.mean(dim=1) if shares is None else (each * shares).sum(dim=1)
