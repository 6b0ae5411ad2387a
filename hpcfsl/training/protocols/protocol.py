"""The seam for split protocols: which part of the model lives where, and every byte that would cross a wire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.models.layout import Layout
from hpcfsl.models.part import Part
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

    @property
    def shares_server(self) -> bool:
        """Whether the clients of a group train one server half between them."""
        return False

    @property
    def in_turn(self) -> bool:
        """Whether they do so one after the other."""
        return False

    @property
    def undoes(self) -> str:
        """How a shared server half is undone, as in `undo`; "none" where nothing is shared."""
        return "none"

    @property
    def second_cut(self) -> str | None:
        """The layer after which the client's tail begins, "" for the last possible one; None where there is no tail."""
        return None

    @property
    def labels_at_server(self) -> bool:
        """Whether clients send their labels to the server."""
        return self.cuts

    def personal_names(self, layout: Layout) -> tuple[str, ...]:
        """Return the parameters that stay with their client across rounds, by the names of the layout; none here.

        Raises:
            ConfigError: The settings name layers that the model does not have, or not there.
        """
        return ()

    @property
    def cut_of_device(self) -> dict[str, str]:
        """Cuts of clients with devices of a class, where they are not the model's; none here."""
        return {}

    def wire_bytes(self, model: SplitModel, samples: NDArray[np.int64], epochs: int) -> WireBytes:
        """Return the bytes of one round for clients with `samples` training samples each, int64 [clients].

        With 0 epochs it is what crosses besides local steps.
        """
        raise AssertionError("every protocol accounts its bytes")

    def averaged_bytes(self, model: SplitModel) -> int:
        """Return the bytes of what a client holds and averages with the others: its part of the model, once."""
        personal = Part(model.layout, self.personal_names(model.layout))
        return FLOAT_BYTES * (model.layout.client_size - personal.size)

    def across_bytes(self, model: SplitModel) -> int:
        """Return the bytes of one second model update between a group and the root (either direction)."""
        return FLOAT_BYTES * Part(model.layout, self.personal_names(model.layout)).rest_size


protocols: Registry[Protocol] = Registry("protocol", key="name", default="splitfed-v1")
