"""Bringing a group's samples to the device chunk by chunk, the next chunk's while the current one trains.

On a GPU the samples go through page-locked memory on a stream of their own. On a CPU nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from hpcfsl.training.updates import LocalData


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Samples on their way to the device; `arrived` is None where they need none."""

    data: LocalData
    arrived: torch.cuda.Event | None = None


class Stager:
    """Hands out the chunks of a group on a device.

    Args:
        device: Where the samples are needed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def chunks(self, data: LocalData, size: int) -> Iterator[LocalData]:
        """Yield the chunks of `data`, `size` clients each, in order; each is fetched before the one before is used."""
        ahead = self.fetch(data.chunk(0, size))
        for first in range(size, len(data.clients), size):
            current, ahead = ahead, self.fetch(data.chunk(first, first + size))
            yield self.hand_over(current)
        yield self.hand_over(ahead)

    def fetch(self, data: LocalData) -> Fetched:
        """Start to copy samples to the device."""
        if self._stream is None or data.inputs.device == self._device:
            return Fetched(data=data)
        with torch.cuda.stream(self._stream):
            there = data.map_tensors(lambda tensor: tensor.pin_memory().to(self._device, non_blocking=True))
            arrived = torch.cuda.Event()
            arrived.record(self._stream)
        return Fetched(data=there, arrived=arrived)

    def hand_over(self, fetched: Fetched) -> LocalData:
        """Return the samples, for use in the device's current stream, which waits until they have arrived."""
        if fetched.arrived is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(fetched.arrived)
            for tensor in fetched.data.tensors:
                tensor.record_stream(current)  # their memory may be used again only when this stream is done with it
        return fetched.data
