"""The seam for split protocols: which part of the model lives where, and every byte that would cross a wire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.split import SplitModel
from hpcfsl.settings import Registry, Settings
from hpcfsl.training.protocols.wire import FLOAT_BYTES, WireBytes


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
