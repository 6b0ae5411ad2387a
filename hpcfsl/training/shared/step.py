"""One step of some of a group's clients through the shared server half: what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.training.dropout import keep_masks

Send = Callable[[Tensor], Tensor]
"""What a client sends in the place of its smashed data [samples, ...] of a step."""


@dataclass(frozen=True, kw_only=True)
class Takers:
    """The clients that take one step, each with room for `width` samples.

    Attributes:
        rows: Row of each in the group, int64 [active].
        clients: Id of each, int64 [active].
        numbers: Number of the local step that each takes, from 0 in the round, int64 [active].
        sizes: Samples of each, int64 [active], at most `width`; what stands in the rest of its room weighs nothing.
        width: Room for each client's samples.
        seed: The run's seed.
        round: The round.
    """

    rows: NDArray[np.int64]
    clients: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    width: int
    seed: int
    round: int

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def choose(self, chosen: slice | NDArray[np.bool_]) -> Takers:
        """Return some of them."""
        own = {name: getattr(self, name)[chosen] for name in ("rows", "clients", "numbers", "sizes")}
        return replace(self, **own)

    def masks(self, layers: Sequence[KeyedDropout], device: torch.device) -> list[Tensor]:
        """Return the masks of dropout layers in this step, one [active * width, *features] a layer."""
        return [
            keep_masks(
                layer,
                seed=self.seed,
                round=self.round,
                clients=self.clients,
                steps=self.numbers,
                batch=self.width,
                device=device,
            )
            for layer in layers
        ]


@dataclass(frozen=True, kw_only=True)
class Step:
    """The samples of one step, client after client.

    Attributes:
        takers: The clients.
        inputs: [active * width, ...].
        targets: [active * width, ...].
        senders: By position, what the clients send that do not send their smashed data.
    """

    takers: Takers
    inputs: Tensor
    targets: Tensor
    senders: Mapping[int, Send]

    def part(self, first: int, last: int) -> Step:
        """Return the step of the clients in positions `first` to `last`."""
        samples = slice(first * self.takers.width, last * self.takers.width)
        return Step(
            takers=self.takers.choose(slice(first, last)),
            inputs=self.inputs[samples],
            targets=self.targets[samples],
            senders={place - first: send for place, send in self.senders.items() if first <= place < last},
        )


@dataclass(frozen=True, kw_only=True)
class Received:
    """What the server received in one step, kept to train its half again.

    Attributes:
        takers: The clients.
        smashed: Smashed data as the server sees them, [active * width, *smashed_shape].
        answers: What its gradient follows from: targets, or where labels stay with the client the gradient of each
            client's mean loss at the outputs of the server half, [active * width, ...].
    """

    takers: Takers
    smashed: Tensor
    answers: Tensor

    def choose(self, chosen: NDArray[np.bool_]) -> Received:
        """Return what some of the clients sent, chosen by bool [active]."""
        if chosen.all():
            return self
        samples = np.flatnonzero(np.repeat(chosen, self.takers.width))
        return Received(takers=self.takers.choose(chosen), smashed=self.smashed[samples], answers=self.answers[samples])

    def part(self, first: int, last: int) -> Received:
        """Return what the clients in positions `first` to `last` sent."""
        samples = slice(first * self.takers.width, last * self.takers.width)
        clients = self.takers.choose(slice(first, last))
        return Received(takers=clients, smashed=self.smashed[samples], answers=self.answers[samples])


def joined(takers: Takers, chunks: Sequence[Received]) -> Received:
    """Return what all clients of one step sent, from chunks of them."""
    if len(chunks) == 1:
        return chunks[0]
    return Received(
        takers=takers,
        smashed=torch.cat([chunk.smashed for chunk in chunks]),
        answers=torch.cat([chunk.answers for chunk in chunks]),
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a step gave.

    Attributes:
        losses: Mean loss of each client before the step, float32 [active].
        gradients: Gradients of each client's own mean loss, one [active, *shape] a parameter of the layout.
        received: What the server received.
    """

    losses: Tensor
    gradients: Sequence[Tensor]
    received: Received


class Pass(Protocol):
    """Forward and backward pass of a step; three ways to the same numbers."""

    name: str
    detail: str

    def run(self, weights: Sequence[Tensor], step: Step) -> Found:
        """Return what a step gives; `weights` are one [active, *shape] a parameter of the layout."""
        ...

    def run_server(self, weights: Sequence[Tensor], received: Received) -> list[Tensor]:
        """Return the gradients of the server half alone, [active, *shape] each; `weights` are its own."""
        ...

    def smash(self, weights: Sequence[Tensor], inputs: Tensor, send: Send | None) -> Tensor:
        """Return the smashed data [samples, ...] of one client as the server sees them; `weights` are [1, *shape]."""
        ...
