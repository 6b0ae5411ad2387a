"""Device classes: clients differ in how fast they compute and how they are connected.

The model is plain on purpose: compute time is operations over speed, transfer time is bytes over bandwidth plus a
latency a message, nothing overlaps, and links are not shared, much as in the cost analysis of split federated learning
(Thapa et al., SplitFed, AAAI 2022).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from hpcfsl.clock.clock import Clock, Work, clocks
from hpcfsl.seeding import Purpose, random_normal, random_uniform
from hpcfsl.settings import Settings

_CLASS_LANE, _JITTER_LANE, _STRAGGLER_LANE = range(3)
_SUM_TOLERANCE = 1e-9


class DeviceClass(Settings):
    """Devices of one kind (an entry of `clock.classes`)."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")
    """What the trace calls it: 1 to 32 letters, digits, dots, dashes or underlines."""
    share: float = Field(gt=0, le=1)
    """Share of the clients; all classes together have 1. Which client has which device is drawn once."""
    gflops: float = Field(ge=1e-6, le=1e9)
    """Speed of training, 1e9 operations a second."""
    up_mbps: float = Field(ge=1e-6, le=1e9)
    """Bandwidth from the client, 1e6 bits a second."""
    down_mbps: float = Field(ge=1e-6, le=1e9)
    """Bandwidth to the client, 1e6 bits a second."""
    latency_ms: float = Field(0.0, ge=0, le=1e6)
    """Time that each message takes however short it is, milliseconds."""
    fault_factor: float = Field(1.0, ge=0, le=1e6)
    """Factor on all probabilities of `[faults]` for these clients."""


@clocks.register
class Devices(Clock):
    """Virtual time from device classes that the configuration lists."""

    rule: Literal["devices"] = "devices"
    classes: tuple[DeviceClass, ...] = Field(min_length=1, max_length=32)
    """Device classes; `[[clock.classes]]` opens each."""
    jitter: float = Field(0.0, ge=0, le=3)
    """A client's own times are multiplied by `exp(jitter * z)` with `z` standard normal, drawn anew each round."""
    straggler_probability: float = Field(0.0, ge=0, le=1)
    """Probability that a client is a straggler in a round."""
    straggler_slowdown: float = Field(10.0, ge=1, le=1e6)
    """What a straggler's own times, computing and transfers, are multiplied by."""
    deadline_seconds: float = Field(0.0, ge=0, le=1e12)
    """Uploads that arrive later, in virtual seconds from the start of the round, are thrown away; 0 waits for all."""
    server_gflops: float = Field(1000.0, ge=1e-6, le=1e9)
    """Speed at which the server half of each client is computed, and a replay, 1e9 operations a second."""
    server_mbps: float = Field(1000.0, ge=1e-6, le=1e9)
    """Bandwidth of a server, 1e6 bits a second: to the root, and at most so much to each client."""
    server_latency_ms: float = Field(1.0, ge=0, le=1e6)
    """Latency between a group's server and the root, milliseconds."""

    @field_validator("classes")
    @classmethod
    def _shares(cls, classes: tuple[DeviceClass, ...]) -> tuple[DeviceClass, ...]:
        names = [each.name for each in classes]
        if len(set(names)) < len(names):
            raise ValueError(f"two classes have the same name ({', '.join(names)}); name each differently")
        total = math.fsum(each.share for each in classes)
        if abs(total - 1) > _SUM_TOLERANCE:
            raise ValueError(f"the shares of all classes sum to {total:.10g}; they must sum to 1")
        return classes

    @property
    def deadline(self) -> float:
        """As set; +inf for 0."""
        return self.deadline_seconds or float("inf")

    @property
    def largest_fault_factor(self) -> float:
        """The largest factor of any class."""
        return max(each.fault_factor for each in self.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of all classes, in order."""
        return tuple(each.name for each in self.classes)

    def device_names(self, clients: NDArray[np.int64], seed: int) -> NDArray[np.bytes_]:
        """Return the name of each client's class, [clients]."""
        names = np.array([each.name.encode() for each in self.classes], "S32")
        return names[self._places(clients, seed)]

    def fault_factors(self, clients: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
        """Return the factor of each client's class, float64 [clients]."""
        return self._column("fault_factor")[self._places(clients, seed)]

    def client_seconds(self, work: Work, *, seed: int, round: int) -> NDArray[np.float64]:
        """Return pace * (operations / speed + transfers) + server operations / server speed, float64 [clients]."""
        places, link = self._places(work.clients, seed), self.server_mbps
        compute = work.client_flops / (1e9 * self._column("gflops")[places])
        up = 8 * work.wire.up / (1e6 * np.minimum(self._column("up_mbps")[places], link))
        down = 8 * work.wire.down / (1e6 * np.minimum(self._column("down_mbps")[places], link))
        latency = work.messages * (1e-3 * self._column("latency_ms")[places])
        served = work.server_flops / (1e9 * self.server_gflops)
        pace = self._pace(work.clients, seed, round)
        return np.asarray(pace * (compute + up + down + latency) + served)

    def server_seconds(self, flops: float) -> float:
        """Return operations over the server's speed."""
        return flops / (1e9 * self.server_gflops)

    def across_seconds(self, *, up_bytes: int, down_bytes: int) -> float:
        """Return bytes over the server's bandwidth plus its latency for each way that is used."""
        ways = [size for size in (up_bytes, down_bytes) if size]
        return math.fsum(8 * size / (1e6 * self.server_mbps) + 1e-3 * self.server_latency_ms for size in ways)

    def _places(self, clients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """Return the number of each client's class, int64 [clients]: a function of (seed, client)."""
        number = random_uniform(seed, Purpose.CLOCK, round=0, entity=clients, count=1, lane=_CLASS_LANE)[:, 0]
        edges = np.cumsum(self._column("share"))
        # Shares that sum to a rounding error less than 1 leave the last class the rest.
        return np.asarray(np.minimum(np.searchsorted(edges, number), len(edges) - 1), np.int64)

    def _pace(self, clients: NDArray[np.int64], seed: int, round: int) -> NDArray[np.float64]:
        """Return what each client's own times are multiplied by this round, float64 [clients]."""
        pace = np.ones(len(clients))
        if self.jitter:
            drawn = random_normal(seed, Purpose.CLOCK, round=round, entity=clients, count=1, lane=_JITTER_LANE)
            pace *= np.exp(self.jitter * drawn[:, 0])
        if self.straggler_probability:
            drawn = random_uniform(seed, Purpose.CLOCK, round=round, entity=clients, count=1, lane=_STRAGGLER_LANE)
            pace[drawn[:, 0] <= self.straggler_probability] *= self.straggler_slowdown
        return pace

    def _column(self, name: str) -> NDArray[np.float64]:
        return np.array([getattr(each, name) for each in self.classes], np.float64)
