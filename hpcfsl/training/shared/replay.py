"""Training a shared server half again, from the round's start, without the clients that were excluded (P2 step 6).

It takes the steps of the remaining clients only, in the order they were taken, on the smashed data and answers that the
server has recorded; a survivor's steps are scaled by what the method made of them, eta / c_i. Nothing crosses a wire.
The smashed data are those of the first training, in which the clients met a server half that excluded ones had moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.training.shared.combine import Mean
from hpcfsl.training.shared.halves import ServerHalf, join
from hpcfsl.training.shared.session import Session
from hpcfsl.training.shared.step import Pass, Received


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay gave.

    Attributes:
        displacement: What the server half moved by, float32 [server params].
        samples: Samples that it was trained on, counted in each epoch.
    """

    displacement: Tensor
    samples: int


def replay(
    passes: Pass, half: ServerHalf, session: Session, scales: NDArray[np.float64], *, chunk: int, device: torch.device
) -> Replayed:
    """Return the server half's displacement without some clients.

    Args:
        passes: Forward and backward pass.
        half: The server half; its weights and state are overwritten.
        session: The round.
        scales: Factor of each client's steps, float64 [clients]; NaN for clients that are excluded.
        chunk: Clients passed at a time.
        device: Where to train.
    """
    remains = ~np.isnan(scales)
    half.begin(session.start.to(device))
    samples, last = 0, -1
    for received in session.received:
        chosen = remains[received.takers.rows]
        if not chosen.any():
            continue
        if session.in_turn and received.takers.rows[0] != last:
            half.begin(half.flat())  # every turn begins with an optimiser at rest
            last = int(received.takers.rows[0])
        samples += _step(passes, half, session, received.choose(chosen), scales, chunk=chunk, device=device)
    return Replayed(displacement=half.flat() - session.start.to(device), samples=samples)


def _step(
    passes: Pass,
    half: ServerHalf,
    session: Session,
    received: Received,
    scales: NDArray[np.float64],
    *,
    chunk: int,
    device: torch.device,
) -> int:
    """Take one step; return its samples."""
    sizes = received.takers.sizes
    parts = scales[received.takers.rows] * sizes / sizes.sum()
    if parts.sum() <= 0:
        return 0
    mean = Mean(len(session.start), device)
    for first in range(0, len(sizes), chunk):
        some = received.part(first, first + chunk)
        gradients = passes.run_server(half.expand(len(some.takers)), _on(some, device))
        mean.add(join(gradients), parts[first : first + chunk] / parts.sum())
    half.step(mean.total, float(parts.sum()))
    return int(sizes.sum())


def _on(received: Received, device: torch.device) -> Received:
    return replace(received, smashed=received.smashed.to(device), answers=received.answers.to(device))
