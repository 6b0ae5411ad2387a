"""What the protocols have in common in which the clients of a group share one server half.

Such a server half has trained on an attacker before anybody was scored, so each of them says how that is undone.
"""

from __future__ import annotations

from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel
from hpcfsl.training.protocols.protocol import Protocol
from hpcfsl.training.protocols.wire import FLOAT_BYTES, WireBytes, label_bytes

Undo = Literal["replay", "screen", "none"]
"""Ways to undo what an attacker taught a shared server half."""


class SharedServer(Protocol):
    """A protocol with one server half a group."""

    undo: Undo = "replay"
    """How what an attacker taught the shared server half is undone. `replay` trains the server half of the round's
    start again on the recorded smashed data of the clients that remain, with their scaled steps. `screen` lets
    `[screening]` judge the clients' smashed data before the server's first step, by `rule` "distance" where no other is
    chosen, and trains on those it lets through. `none` keeps everything: only for `run.preset` "literal", and for
    "averaging", where it is the default."""

    @property
    def cuts(self) -> bool:
        """True."""
        return True

    @property
    def shares_server(self) -> bool:
        """True."""
        return True

    @property
    def undoes(self) -> str:
        """`undo`."""
        return self.undo

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count what every sample and epoch sends, and the client's parts, up and down; undoing sends nothing.

        Screening has every client send all its smashed data once more, before training.
        """
        passes, none = samples * epochs, np.zeros(len(samples), np.int64)
        sent = passes + samples if self.undo == "screen" else passes
        label = label_bytes(model) if self.labels_at_server else 0
        returned = FLOAT_BYTES * prod(model.returned_shape)
        averaged = np.full(len(samples), self.averaged_bytes(model), np.int64)
        return WireBytes(
            smashed_up=sent * model.up_bytes,
            gradients_down=passes * model.down_bytes,
            labels_up=sent * label,
            outputs_down=none if self.labels_at_server else passes * returned,
            output_gradients_up=none if self.labels_at_server else passes * returned,
            model_up=averaged,
            model_down=averaged,
        )
