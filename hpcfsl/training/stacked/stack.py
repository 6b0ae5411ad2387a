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
        self._start = torch.zeros(1, layout.size, device=device)  # a row for all clients, or a row each
        self._drift: Tensor | None = None
        self.capacity = self.generation = self._clients = 0
        self._weights: list[Tensor] = []
        self._leaves: dict[int, list[Tensor]] = {}

    def begin(self, start: Tensor, clients: int, drift: Tensor | None = None) -> None:
        """Give the first `clients` clients the weights to start from, and an optimiser at rest.

        Args:
            start: The weights, float32 [params] of all of them or [clients, params].
            clients: How many there are.
            drift: What is added to their gradients, float32 [clients, params].
        """
        if clients > self.capacity or self._needs_rows(start, drift):
            self._make(max(clients, self.capacity), own_starts=start.ndim == 2, drifts=drift is not None)
        else:
            self.optimiser.reset()
        self._clients = clients
        self._start[: len(start) if start.ndim == 2 else 1] = start
        if self._drift is not None and drift is not None:
            self._drift[:clients] = drift
        for weight, value in zip(self._weights, self._layout.unflatten(self._starts()).values(), strict=True):
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
            change = weight[: self._clients].flatten(1) - self._starts()[:, where]
            if in_order:
                found[:, where] = change
            else:
                found[rows, where] = change
        return found

    def _starts(self) -> Tensor:
        """Return where clients started, [1, params] for all of them or [clients, params]."""
        return self._start[: self._clients] if len(self._start) > 1 else self._start

    def _needs_rows(self, start: Tensor, drift: Tensor | None) -> bool:
        rows = self.capacity if start.ndim == 2 else 1
        return len(self._start) != rows or (self._drift is None) != (drift is None)

    def _make(self, capacity: int, *, own_starts: bool, drifts: bool) -> None:
        self.capacity, self.generation, self._leaves = capacity, self.generation + 1, {}
        self._start = self._start.new_zeros(capacity if own_starts else 1, self._layout.size)
        self._drift = self._start.new_zeros(capacity, self._layout.size) if drifts else None
        self._weights = [self._start.new_empty(capacity, *shape) for shape in self._layout.shapes]
        self.optimiser = LocalOptimiser(
            self._settings,
            [each.view(capacity, -1) for each in self._weights],
            self._split(self._start),
            rates_of(self._layout, self._settings),
        )
        if self._drift is not None:
            self.optimiser.drift = self._split(self._drift)

    def _split(self, rows: Tensor) -> list[Tensor]:
        """Return the columns of each parameter, [rows, size] each."""
        return [rows[:, where] for where in self._layout.slices.values()]
