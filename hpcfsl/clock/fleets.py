"""Fleets of devices to start from: `devices` with its classes filled in.

Bandwidths of `phones` and `homes` are the minimum speeds that the United States' regulator counts as service: 100 down
and 20 up for a home, 35 and 3 for 5G (Federal Communications Commission, 2024 Section 706 Report), 25 and 3, its
benchmark for homes from 2015 to 2024, and 5 and 1 for LTE (its 2020 report). The speed of a single-board computer is
High Performance Linpack on a Raspberry Pi 4, about 8 GFLOP/s (Feiereisen, 2022). All other speeds, every latency and
all shares are examples. Set your own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.clock.clock import clocks
from hpcfsl.clock.devices import DeviceClass, Devices

PHONES = (
    DeviceClass(name="fast-phone", share=0.4, gflops=20.0, up_mbps=3.0, down_mbps=35.0, latency_ms=30.0),
    DeviceClass(name="slow-phone", share=0.6, gflops=5.0, up_mbps=1.0, down_mbps=5.0, latency_ms=60.0),
)
HOMES = (
    DeviceClass(name="home-computer", share=0.5, gflops=100.0, up_mbps=20.0, down_mbps=100.0, latency_ms=10.0),
    DeviceClass(name="home-board", share=0.3, gflops=8.0, up_mbps=20.0, down_mbps=100.0, latency_ms=10.0),
    DeviceClass(name="rural-board", share=0.2, gflops=8.0, up_mbps=3.0, down_mbps=25.0, latency_ms=30.0),
)
SITES = (
    DeviceClass(name="gpu-site", share=0.5, gflops=10_000.0, up_mbps=1000.0, down_mbps=1000.0, latency_ms=5.0),
    DeviceClass(name="cpu-site", share=0.5, gflops=500.0, up_mbps=100.0, down_mbps=100.0, latency_ms=10.0),
)


# Subclasses of a rule, each under its own name: the page of settings says of them only what differs from `devices`.


@clocks.register
class Phones(Devices):
    """Virtual time on phones: slow links up, so smashed data rule."""

    rule: Literal["phones"] = "phones"  # type: ignore[assignment]  # its own name
    classes: tuple[DeviceClass, ...] = Field(PHONES, min_length=1, max_length=32)
    """Device classes; `[[clock.classes]]` opens each."""


@clocks.register
class Homes(Devices):
    """Virtual time on computers and boards behind home connections."""

    rule: Literal["homes"] = "homes"  # type: ignore[assignment]  # its own name
    classes: tuple[DeviceClass, ...] = Field(HOMES, min_length=1, max_length=32)
    """Device classes; `[[clock.classes]]` opens each."""


@clocks.register
class Sites(Devices):
    """Virtual time on machines of hospitals, companies or laboratories: few clients, wide links."""

    rule: Literal["sites"] = "sites"  # type: ignore[assignment]  # its own name
    classes: tuple[DeviceClass, ...] = Field(SITES, min_length=1, max_length=32)
    """Device classes; `[[clock.classes]]` opens each."""
