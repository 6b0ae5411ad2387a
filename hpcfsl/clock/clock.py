"""The seam for clocks: from what clients computed, sent and received to seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcfsl.settings import Registry, Settings
from hpcfsl.training.protocols import WireBytes


@dataclass(frozen=True, kw_only=True)
class Work:
    """What some clients do in a round, arrays [clients].

    Attributes:
        clients: Client ids, int64.
        client_flops: Operations of each client's half, float64.
        server_flops: Operations of the server half for each client, float64.
        steps: Local steps that are taken, int64.
        wire: Bytes that cross the wires.
        early_messages: Messages up before the first local step, for screening, int64.
    """

    clients: NDArray[np.int64]
    client_flops: NDArray[np.float64]
    server_flops: NDArray[np.float64]
    steps: NDArray[np.int64]
    wire: WireBytes
    early_messages: NDArray[np.int64] | int = 0

    @property
    def messages(self) -> NDArray[np.int64]:
        """Messages up and down, int64: the model each way, the early ones, and in each step both ways at the cut."""
        wire = self.wire
        ends = (wire.model_down > 0).astype(np.int64) + (wire.model_up > 0) + self.early_messages
        return ends + self.steps * ((wire.smashed_up > 0).astype(np.int64) + (wire.gradients_down > 0))


class Clock(Settings):
    """The simulated clock (section `[clock]`). Subclasses add `rule: Literal["its-name"] = "its-name"`."""

    rule: str

    @property
    def is_on(self) -> bool:
        """Whether there is virtual time at all."""
        return True

    @property
    def deadline(self) -> float:
        """Seconds after which a round's uploads are thrown away; +inf for none."""
        return float("inf")

    @property
    def largest_fault_factor(self) -> float:
        """The largest of `fault_factors`, for checks."""
        return 1.0

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all device classes; none here."""
        return ()

    def device_names(self, clients: NDArray[np.int64], seed: int) -> NDArray[np.bytes_]:
        """Return the name of each client's device class, [clients]; empty where there are none."""
        return np.full(len(clients), b"", "S32")

    def fault_factors(self, clients: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        """Return each client's factor on all probabilities of faults, float64 [clients]."""
        return np.ones(len(clients))

    def client_seconds(self, work: Work, *, seed: int, round: int) -> NDArray[np.float64]:
        """Return how long each client's work takes, float64 [clients], from the start of the round.

        Args:
            work: What they do.
            seed: The run's seed.
            round: The round.
        """
        raise AssertionError("every clock measures clients")

    def server_seconds(self, flops: float) -> float:
        """Return how long operations of a group's server take that are no client's; no time unless a clock says so."""
        return 0.0

    def across_seconds(self, *, up_bytes: int, down_bytes: int) -> float:
        """Return how long one update between a group's server and the root takes, there and back; 0 bytes: not sent."""
        raise AssertionError("every clock measures the exchange across groups")


clocks: Registry[Clock] = Registry("clock", default="none")
