"""The weights of a group with one server half: the clients' own parts, a row a client, and the server half, once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpcfsl.models.layout import Layout
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked.stack import Stack


def own_layout(layout: Layout) -> Layout:
    """Return the layout of the clients' parts."""
    return _part(layout, [name for name in layout.names if not name.startswith("server.")])


def server_layout(layout: Layout) -> Layout:
    """Return the layout of the server half."""
    return _part(layout, [name for name in layout.names if name.startswith("server.")])


class ServerHalf:
    """The shared server half, its optimiser with a state of its own, and a place for its gradient.

    Args:
        layout: Of the whole model.
        settings: Of local training.
        device: Where to train.
    """

    def __init__(self, layout: Layout, settings: TrainingSettings, device: torch.device) -> None:
        self._layout = server_layout(layout)
        self._stack = Stack(self._layout, settings, device)

    def begin(self, start: Tensor) -> None:
        """Put it at `start`, float32 [server params], with an optimiser at rest."""
        self._stack.begin(start, 1)

    def expand(self, clients: int) -> list[Tensor]:
        """Return its weights as if each client had a copy, [clients, *shape] a parameter."""
        return [leaf.detach().expand(clients, *leaf.shape[1:]) for leaf in self._stack.leaves(1)]

    def flat(self) -> Tensor:
        """Return its weights, float32 [server params], a copy."""
        return torch.cat([leaf.detach().flatten() for leaf in self._stack.leaves(1)])

    def step(self, gradient: Tensor, scale: float = 1.0) -> None:
        """Step along `gradient`, float32 [server params], `scale` times as far as the settings say."""
        pieces = [gradient[where] for where in self._layout.slices.values()]
        if scale == 1.0:
            self._stack.optimiser.step(pieces, 1)
            return
        before = [leaf.detach().clone() for leaf in self._stack.leaves(1)]
        self._stack.optimiser.step(pieces, 1)
        for leaf, old in zip(self._stack.leaves(1), before, strict=True):
            leaf.detach().sub_(old).mul_(scale).add_(old)


def join(gradients: Sequence[Tensor]) -> Tensor:
    """Return gradients [clients, *shape] as one row a client, [clients, params]."""
    return torch.cat([gradient.reshape(len(gradient), -1) for gradient in gradients], dim=1)


def _part(layout: Layout, names: list[str]) -> Layout:
    shapes = dict(zip(layout.names, layout.shapes, strict=True))
    client = [name for name in names if not name.startswith("server.")]
    size = sum(layout.slices[name].stop - layout.slices[name].start for name in client)
    return Layout(names=tuple(names), shapes=tuple(shapes[name] for name in names), client_size=size)
