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

Send = Callable[[Tensor], Tensor]
"""What a client sends in the place of its smashed data [samples, ...] of a step."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The samples of one step, client after client, each with room for `width` of them.

    Attributes:
        rows: Row in the group of each client that takes the step, int64 [active].
        numbers: Number of the local step that each takes, from 0 in the round, int64 [active].
        sizes: Samples of each, int64 [active], at most `width`; what stands in the rest of its room weighs nothing.
        width: Room for each client's samples.
        inputs: [active * width, ...].
        targets: [active * width, ...].
        masks: One [active * width, *features] a dropout layer.
        senders: By position, what the clients send that do not send their smashed data.
    """

    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    width: int
    inputs: Tensor
    targets: Tensor
    masks: list[Tensor]
    senders: Mapping[int, Send]

    def part(self, first: int, last: int) -> Step:
        """Return the step of the clients in positions `first` to `last`."""
        clients, samples = slice(first, last), slice(first * self.width, last * self.width)
        return replace(
            self,
            rows=self.rows[clients],
            numbers=self.numbers[clients],
            sizes=self.sizes[clients],
            inputs=self.inputs[samples],
            targets=self.targets[samples],
            masks=[mask[samples] for mask in self.masks],
            senders={place - first: send for place, send in self.senders.items() if first <= place < last},
        )


@dataclass(frozen=True, kw_only=True)
class Received:
    """What the server received in one step, kept to train its half again.

    Attributes:
        rows: As in `Step`.
        numbers: As in `Step`.
        sizes: As in `Step`.
        width: As in `Step`.
        smashed: Smashed data as the server sees them, [active * width, *smashed_shape].
        answers: What its gradient follows from: targets, or where labels stay with the client the gradient of each
            client's mean loss at the outputs of the server half, [active * width, ...].
    """

    rows: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    width: int
    smashed: Tensor
    answers: Tensor

    def choose(self, chosen: NDArray[np.bool_]) -> Received:
        """Return what some of the clients sent, chosen by bool [active]."""
        if chosen.all():
            return self
        samples = np.flatnonzero(np.repeat(chosen, self.width))
        return Received(
            rows=self.rows[chosen],
            numbers=self.numbers[chosen],
            sizes=self.sizes[chosen],
            width=self.width,
            smashed=self.smashed[samples],
            answers=self.answers[samples],
        )

    def part(self, first: int, last: int) -> Received:
        """Return what the clients in positions `first` to `last` sent."""
        clients, samples = slice(first, last), slice(first * self.width, last * self.width)
        return replace(
            self,
            rows=self.rows[clients],
            numbers=self.numbers[clients],
            sizes=self.sizes[clients],
            smashed=self.smashed[samples],
            answers=self.answers[samples],
        )


def joined(chunks: Sequence[Received]) -> Received:
    """Return what all clients of one step sent, from chunks of them."""
    if len(chunks) == 1:
        return chunks[0]
    return Received(
        rows=np.concatenate([chunk.rows for chunk in chunks]),
        numbers=np.concatenate([chunk.numbers for chunk in chunks]),
        sizes=np.concatenate([chunk.sizes for chunk in chunks]),
        width=chunks[0].width,
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
    """Forward and backward pass of a step; two ways to the same numbers."""

    name: str
    detail: str
    dropouts: list[KeyedDropout]
    """The dropout layers of all parts, in the order of a step's masks."""
    server_dropouts: list[KeyedDropout]
    """Those of the server half."""

    def run(self, weights: Sequence[Tensor], step: Step) -> Found:
        """Return what a step gives; `weights` are one [active, *shape] a parameter of the layout."""
        ...

    def run_server(self, weights: Sequence[Tensor], received: Received, masks: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of the server half alone, [active, *shape] each; `weights` and `masks` are its own."""
        ...

    def smash(self, weights: Sequence[Tensor], inputs: Tensor, send: Send | None) -> Tensor:
        """Return the smashed data [samples, ...] of one client as the server sees them; `weights` are [1, *shape]."""
        ...
