"""The simulated clock: how long a round would take on real devices and links. Layer 2.

Off by default. Virtual time follows from counted bytes and counted operations, never from the machine that simulates,
so it is the same on any number of ranks (section `[clock]`).
"""

from hpcfsl.clock import devices, fleets, no_clock
from hpcfsl.clock.clock import Clock, Work, clocks
from hpcfsl.clock.devices import DeviceClass

__all__ = ["Clock", "DeviceClass", "Work", "clocks", "devices", "fleets", "no_clock"]
