"""The weights of a chunk's clients, parameter by parameter, and the optimiser on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.layout import Layout
from hpcfsl.training.optimisers import LocalOptimiser, rates_of
from hpcfsl.training.settings import TrainingSettings


class Stack:
    """One tensor [capacity, *shape] a parameter, kept from chunk to chunk: fresh memory costs as much as a step.

    Attributes:
        capacity: Clients that there is room for: those of the largest chunk so far.
        generation: Counts how often the tensors were made anew.
        optimiser: Steps the first clients.
    """

    optimiser: LocalOptimiser

    def __init__(self, layout: Layout, settings: TrainingSettings, device: torch.device) -> None:
        self._layout, self._settings = layout, settings
        self._start = torch.zeros(layout.size, device=device)
        self.capacity = self.generation = self._clients = 0
        self._weights: list[Tensor] = []
        self._leaves: dict[int, list[Tensor]] = {}

    def begin(self, start: Tensor, clients: int) -> None:
        """Give the first `clients` clients the weights `start`, float32 [params], and an optimiser at rest."""
        self._start.copy_(start)
        if clients > self.capacity:
            self._make(clients)
        else:
            self.optimiser.reset()
        self._clients = clients
        for weight, value in zip(self._weights, self._layout.unflatten(self._start).values(), strict=True):
            weight[:clients] = value

    def leaves(self, active: int) -> Sequence[Tensor]:
        """Return the weights of the first `active` clients, to be differentiated, [active, *shape] a parameter."""
        if active not in self._leaves:
            self._leaves[active] = [weight[:active].detach().requires_grad_() for weight in self._weights]
        return self._leaves[active]

    def state(self) -> list[Tensor]:
        """Return all that a step changes, to be put back after one that was not meant to count."""
        return [*self._weights, *self.optimiser.state()]

    def updates(self, order: NDArray[np.int64]) -> Tensor:
        """Return weights minus start, float32 [clients, params]; row order[i] is that of client i of the stack."""
        found = self._start.new_empty(self._clients, self._layout.size)
        rows = torch.from_numpy(order).to(found.device)
        in_order = bool((order == np.arange(len(order))).all())
        for weight, where in zip(self._weights, self._layout.slices.values(), strict=True):
            change = weight[: self._clients].flatten(1) - self._start[where]
            if in_order:
                found[:, where] = change
            else:
                found[rows, where] = change
        return found

    def _make(self, capacity: int) -> None:
        self.capacity, self.generation, self._leaves = capacity, self.generation + 1, {}
        shapes = self._layout.shapes
        self._weights = [self._start.new_empty(capacity, *shape) for shape in shapes]
        starts = self._layout.unflatten(self._start).values()
        self.optimiser = LocalOptimiser(
            self._settings,
            [each.view(capacity, -1) for each in self._weights],
            [each.view(-1) for each in starts],
            rates_of(self._layout, self._settings),
        )
