"""A step of one client after the other, on modules whose parameters are pointed at each client's weights.

Choose it where stacking does not pay (convolutions on a CPU), or where a module cannot be stacked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import mean_loss
from hpcfsl.training.precision import autocast
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared.step import Found, Received, Send, Step


class LoopPass:
    """Runs the clients of a step one after the other; see `step.Pass`.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.
        detail: Why not stacked, for the record.
    """

    name = "one-by-one"

    def __init__(
        self, model: SplitModel, settings: TrainingSettings, device: torch.device, *, detail: str = ""
    ) -> None:
        self.detail, self._settings, self._device, self._has_tail = detail, settings, device, model.has_tail
        pieces = model.pieces().to(device).train()
        self._parts = dict(pieces.named_children())
        named = dict(pieces.named_parameters())
        self._parameters = [named[name] for name in model.layout.names]
        self._server = [named[name] for name in model.layout.names if name.startswith("server.")]
        self._dropouts, self._server_dropouts = _dropouts(pieces), _dropouts(self._parts["server"])

    def run(self, weights: Sequence[Tensor], step: Step) -> Found:
        """Return what a step gives."""
        gradients = [torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in weights]
        takers = step.takers
        losses, masks = torch.empty(len(takers), device=self._device), takers.masks(self._dropouts, self._device)
        smashed, answers = list[Tensor](), list[Tensor]()
        for place, size in enumerate(takers.sizes.tolist()):
            _point(self._parameters, weights, place)
            samples = slice(place * takers.width, place * takers.width + size)
            _set_masks(self._dropouts, masks, samples)
            loss, found, *sent = self._run_client(step.inputs[samples], step.targets[samples], step.senders.get(place))
            losses[place] = loss
            for gradient, own in zip(gradients, found, strict=True):
                gradient[place] = own
            smashed.append(_padded(sent[0], takers.width))
            answers.append(_padded(sent[1], takers.width))
        received = Received(takers=takers, smashed=torch.cat(smashed), answers=torch.cat(answers))
        return Found(losses=losses, gradients=gradients, received=received)

    def run_server(self, weights: Sequence[Tensor], received: Received) -> list[Tensor]:
        """Return the gradients of the server half alone."""
        gradients = [torch.empty_like(weight, memory_format=torch.contiguous_format) for weight in weights]
        takers = received.takers
        masks = takers.masks(self._server_dropouts, self._device)
        for place, size in enumerate(takers.sizes.tolist()):
            _point(self._server, weights, place)
            samples = slice(place * takers.width, place * takers.width + size)
            _set_masks(self._server_dropouts, masks, samples)
            with autocast(self._settings, self._device):
                returned = self._parts["server"](received.smashed[samples])
                answers = received.answers[samples]
                loss = None if self._has_tail else mean_loss(returned, answers, self._settings.loss)
            found = torch.autograd.grad(
                returned if loss is None else loss,
                self._server,
                grad_outputs=answers if loss is None else None,
                materialize_grads=True,
            )
            for gradient, own in zip(gradients, found, strict=True):
                gradient[place] = own
        return gradients

    def smash(self, weights: Sequence[Tensor], inputs: Tensor, send: Send | None) -> Tensor:
        """Return the smashed data of one client as the server sees them."""
        _point(self._parameters, weights, 0)
        _set_masks(self._dropouts, [], slice(0))
        with torch.no_grad(), autocast(self._settings, self._device):
            smashed: Tensor = self._parts["client"](inputs)
            return self._pass_on(smashed if send is None else send(smashed))

    def _run_client(
        self, inputs: Tensor, targets: Tensor, send: Send | None
    ) -> tuple[Tensor, Sequence[Tensor], Tensor, Tensor]:
        """Return loss, gradients, smashed data as received, and what the server's gradient follows from."""
        with autocast(self._settings, self._device):
            smashed = self._parts["client"](inputs)
            received = self._pass_on(smashed if send is None else replaced(smashed, send(smashed.detach())))
            returned = self._parts["server"](received)
            outputs = self._parts["tail"](returned) if self._has_tail else returned
            loss = mean_loss(outputs, targets, self._settings.loss)
        wanted = [*self._parameters, returned]
        gradients = torch.autograd.grad(loss, wanted, materialize_grads=True)
        answers = gradients[-1] if self._has_tail else targets
        return loss.detach(), gradients[:-1], received.detach(), answers

    def _pass_on(self, smashed: Tensor) -> Tensor:
        link = self._parts.get("link")
        return smashed if link is None else link(smashed)


def replaced(smashed: Tensor, sent: Tensor) -> Tensor:
    """Return `sent`, whose gradient goes to `smashed`: the client takes the cut gradient for that of its own data."""
    return sent.to(smashed.dtype) + (smashed - smashed.detach()).nan_to_num()


def _dropouts(module: nn.Module) -> list[KeyedDropout]:
    return [layer for layer in module.modules() if isinstance(layer, KeyedDropout)]


def _point(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor], place: int) -> None:
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.data = weight[place]


def _set_masks(dropouts: Sequence[KeyedDropout], masks: Sequence[Tensor], samples: slice) -> None:
    for number, layer in enumerate(dropouts):
        layer.mask = masks[number][samples] if masks else None


def _padded(values: Tensor, width: int) -> Tensor:
    if len(values) == width:
        return values
    return torch.cat([values, values.new_zeros(width - len(values), *values.shape[1:])])
