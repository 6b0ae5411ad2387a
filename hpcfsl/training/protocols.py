"""Split protocols: which part of the model lives where, and every byte that would cross a wire.

A protocol is one registered settings class. `fedavg` does not cut the model (McMahan et al., AISTATS 2017);
`splitfed-v1` gives every client its own copy of the server half and averages both halves (Thapa et al., SplitFed,
AAAI 2022, algorithm 1). With per-client server copies the arithmetic is that of the unsplit model, whatever the cut, so
the two differ in who sees what and in what is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel
from hpcfsl.settings import Registry, Settings

FLOAT_BYTES = 4
LABEL_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class WireBytes:
    """Bytes between each client and its group's servers in one round, int64 [clients] each, by kind and direction."""

    smashed_up: NDArray[np.int64]
    gradients_down: NDArray[np.int64]
    labels_up: NDArray[np.int64]
    model_up: NDArray[np.int64]
    model_down: NDArray[np.int64]

    @property
    def up(self) -> NDArray[np.int64]:
        """All bytes from the client, int64 [clients]."""
        return self.smashed_up + self.labels_up + self.model_up

    @property
    def down(self) -> NDArray[np.int64]:
        """All bytes to the client, int64 [clients]."""
        return self.gradients_down + self.model_down


class Protocol(Settings):
    """A split protocol (section `[protocol]`)."""

    name: str

    @property
    def cuts(self) -> bool:
        """Whether the model is cut in two."""
        raise AssertionError("every protocol says whether it cuts")

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Return the bytes of one round for clients with `samples` training samples each, int64 [clients]."""
        raise AssertionError("every protocol accounts its bytes")

    def across_bytes(self, model: SplitModel) -> int:
        """Return the bytes of one second model update between a group and the root (either direction)."""
        return FLOAT_BYTES * model.layout.size


protocols: Registry[Protocol] = Registry("protocol", key="name", default="splitfed-v1")


@protocols.register
class FedAvg(Protocol):
    """No cut: every client trains the whole model and sends it. The baseline without split learning."""

    name: Literal["fedavg"] = "fedavg"

    @property
    def cuts(self) -> bool:
        """False."""
        return False

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count the whole model, up and down."""
        whole = np.full(len(samples), FLOAT_BYTES * model.layout.size, np.int64)
        none = np.zeros(len(samples), np.int64)
        return WireBytes(smashed_up=none, gradients_down=none, labels_up=none, model_up=whole, model_down=whole)


@protocols.register
class SplitFedV1(Protocol):
    """A copy of the server half for every client; both halves averaged; labels at the server."""

    name: Literal["splitfed-v1"] = "splitfed-v1"

    @property
    def cuts(self) -> bool:
        """True."""
        return True

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Count smashed data, gradients and labels of every sample and epoch, and the client half, up and down."""
        passes = samples * epochs
        smashed = passes * (FLOAT_BYTES * prod(model.smashed_shape))
        labels = passes * (LABEL_BYTES * prod(model.target_shape))
        half = np.full(len(samples), FLOAT_BYTES * model.layout.client_size, np.int64)
        return WireBytes(smashed_up=smashed, gradients_down=smashed, labels_up=labels, model_up=half, model_down=half)
