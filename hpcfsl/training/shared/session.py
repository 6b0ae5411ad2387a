"""What a group's aggregator knows of its shared server half after local training, and all it needs to undo some of it.

It holds smashed data of every sample and epoch: 4 bytes times samples, epochs and the size of the smashed data, and as
much for the targets, of one group at a time, or of a rank's groups where they wait for a pooled threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.training.shared.step import Received

Screen = Callable[[Tensor, NDArray[np.int64], Tensor | None], NDArray[np.bool_]]
"""Smashed data [sum(counts), ...], samples of each client, int64 [clients], and labels or None to bool [clients]."""
Poison = Callable[[int, int, Tensor], Tensor]
"""A client's id, the number of its local step, and its smashed data [samples, ...] to what it sends."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What bears on a group's training besides data and settings.

    Attributes:
        liars: Clients that do not send their smashed data, bool [clients]; None for nobody.
        poison: What they send.
        screen: Says whose smashed data the server half trains on; None for everybody's.
        records: Whether to remember what a replay needs.
    """

    liars: NDArray[np.bool_] | None = None
    poison: Poison | None = None
    screen: Screen | None = None
    records: bool = True


@dataclass(frozen=True, kw_only=True)
class Session:
    """One round of a group's shared server half.

    Attributes:
        clients: Client ids, int64 [clients], ascending.
        samples: Training samples of each, int64 [clients].
        used: Whose smashed data the server half was trained on, bool [clients].
        in_turn: Whether clients trained one after the other.
        start: The server half before the round, float32 [server params].
        displacement: What the round's training moved it by, float32 [server params].
        received: What the server received, step by step; empty where no replay is meant.
    """

    clients: NDArray[np.int64]
    samples: NDArray[np.int64]
    used: NDArray[np.bool_]
    in_turn: bool
    start: Tensor
    displacement: Tensor
    received: Sequence[Received] = field(default=(), repr=False)

    def tensors(self) -> list[Tensor]:
        """Return the memory that it holds, tensor by tensor."""
        recorded = [tensor for each in self.received for tensor in (each.smashed, each.answers)]
        return [self.start, self.displacement, *recorded]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Session:
        """Return the session with other tensors in the places of those that `tensors` lists."""
        start, displacement, *recorded = tensors
        received = tuple(
            replace(each, smashed=smashed, answers=answers)
            for each, smashed, answers in zip(self.received, recorded[0::2], recorded[1::2], strict=True)
        )
        return replace(self, start=start, displacement=displacement, received=received)

    def forget(self) -> Session:
        """Return the session without the memory that it holds."""
        return self.with_tensors([torch.empty(0)] * 2) if not self.received else replace(self, received=()).forget()
