"""The local step of many clients at once: drift, proximal term, clipping, then SGD or Adam, in place.

In this order, for each client: its gradient g; plus its drift (SCAFFOLD: Karimireddy et al., ICML 2020); plus mu times
its way from the start (FedProx: Li et al., "Federated optimization in heterogeneous networks", MLSys 2020); scaled down
to the clipping norm over all parameters (Pascanu et al., "On the difficulty of training recurrent neural networks",
ICML 2013); plus weight decay times the weights; then SGD with heavy-ball momentum, or Adam (Kingma and Ba, "Adam: a
method for stochastic optimization", ICLR 2015). The formulas of the last two are those of `torch.optim`. The two halves
may have a rate each (`rates_of`); all else is one for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcfsl.models.layout import Layout
from hpcfsl.training.settings import TrainingSettings


def rates_of(layout: Layout, settings: TrainingSettings) -> tuple[float, ...]:
    """Return the step size of each parameter of `layout.names`, in order: the server half may have one of its own."""
    server, client = server_rate(settings), settings.learning_rate
    return tuple(server if name.startswith("server.") else client for name in layout.names)


def server_rate(settings: TrainingSettings) -> float:
    """Return the step size of the server half's local steps."""
    return settings.server_half_learning_rate or settings.learning_rate


class LocalOptimiser:
    """Steps clients' weights; the state of all starts at zero.

    Args:
        settings: Which rule, and its numbers.
        weights: One tensor [clients, size] a parameter, changed in place by `step`.
        start: The weights before the round, one tensor [size] of all clients or [clients, size] a parameter; read where
            there is a proximal term.
        rates: Step size of each parameter, as `rates_of` gives them; None for `learning_rate` everywhere.

    Attributes:
        drift: What is added to each gradient, one tensor [clients, size] a parameter; empty for nothing.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        weights: Sequence[Tensor],
        start: Sequence[Tensor],
        rates: Sequence[float] | None = None,
    ) -> None:
        self._settings, self._weights = settings, list(weights)
        self._start = [each.view(-1, each.shape[-1]) for each in start]
        self.drift: list[Tensor] = []
        rates = [settings.learning_rate] * len(self._weights) if rates is None else list(rates)
        self._of_rate = {rate: [place for place, own in enumerate(rates) if own == rate] for rate in rates}
        adam = settings.optimizer == "adam"
        self._means = [torch.zeros_like(each) for each in weights] if adam or settings.momentum else []
        self._squares = [torch.zeros_like(each) for each in weights] if adam else []
        # The powers of Adam's decays are tensors, so that a recorded CUDA graph raises them at each replay.
        self._powers = [weights[0].new_ones(len(weights[0]), 1, dtype=torch.float64) for _ in range(2)]

    def state(self) -> list[Tensor]:
        """Return what a step changes besides the weights."""
        return [*self._means, *self._squares, *self._powers]

    def reset(self) -> None:
        """Put the state back to zero."""
        for state in (*self._means, *self._squares):
            state.zero_()
        for power in self._powers:
            power.fill_(1.0)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], active: int) -> None:
        """Step the first `active` clients.

        Args:
            gradients: Of each client's mean loss, one tensor [active, ...] a parameter (or without the first dimension
                where that is 1); left as they are.
            active: How many clients step.
        """
        settings, weights = self._settings, _first(self._weights, active)
        slopes = [gradient.reshape(active, -1) for gradient in gradients]
        if self.drift:
            slopes = list(torch._foreach_add(slopes, _first(self.drift, active)))
        if settings.proximal:
            starts = _first(self._start, active)
            away = [weight - start for weight, start in zip(weights, starts, strict=True)]
            slopes = list(torch._foreach_add(slopes, away, alpha=settings.proximal))
        if settings.clip_norm:
            slopes = _clip(slopes, settings.clip_norm)
        if settings.weight_decay:
            slopes = list(torch._foreach_add(slopes, weights, alpha=settings.weight_decay))
        if settings.optimizer == "adam":
            self._step_adam(weights, slopes, active)
            return
        if settings.momentum:
            means = _first(self._means, active)
            torch._foreach_mul_(means, settings.momentum)
            torch._foreach_add_(means, slopes)
            slopes = means
        for rate, places in self._of_rate.items():
            torch._foreach_add_([weights[i] for i in places], [slopes[i] for i in places], alpha=-rate)

    def _step_adam(self, weights: list[Tensor], gradients: list[Tensor], active: int) -> None:
        settings = self._settings
        means, squares = _first(self._means, active), _first(self._squares, active)
        decays = (settings.adam_beta1, settings.adam_beta2)
        corrections = []
        for power, decay in zip(_first(self._powers, active), decays, strict=True):
            corrections.append(1.0 - power.mul_(decay))
        torch._foreach_lerp_(means, gradients, weight=1.0 - decays[0])
        torch._foreach_mul_(squares, decays[1])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - decays[1])
        root = corrections[1].sqrt().float()
        for size, places in self._of_rate.items():
            rate = (size / corrections[0]).float()
            for i in places:
                weights[i].sub_(means[i] * rate / (squares[i].sqrt() / root + settings.adam_epsilon))


def _first(tensors: list[Tensor], active: int) -> list[Tensor]:
    # What has one row is for all of them.
    return tensors if len(tensors[0]) in (1, active) else [each[:active] for each in tensors]


def _clip(gradients: list[Tensor], bound: float) -> list[Tensor]:
    """Return gradients scaled so that no client's norm over all parameters is above `bound`."""
    squares = [gradient.square().sum(dim=1, keepdim=True) for gradient in gradients]
    factor = (bound / torch.cat(squares, dim=1).sum(dim=1, keepdim=True).sqrt()).clamp(max=1.0)
    return [gradient * factor for gradient in gradients]
