"""One local step recorded as a CUDA graph and replayed: one launch instead of one a kernel.

Only steps of the whole chunk with full batches are recorded; others run as always. See
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hpcfsl.training.stacked.chunk import Batch
    from hpcfsl.training.stacked.stack import Stack

_WARM_UPS = 3


class CapturedStep:
    """Records a step at its first call, and replays it at each further one.

    Args:
        advance: The step: changes weights and the optimiser's state, returns losses [clients].
        stack: What it changes.
        device: A CUDA device.
    """

    def __init__(self, advance: Callable[[Batch], Tensor], stack: Stack, device: torch.device) -> None:
        self._advance, self._stack, self._device = advance, stack, device
        self._generation = -1
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step; return the loss of each client before it."""
        if self._graph is None or self._generation != self._stack.generation:
            with torch.cuda.device(self._device):
                self._record(batch)
        assert self._graph is not None
        for static, fresh in zip(_tensors(self._batch), _tensors(batch), strict=True):
            static.copy_(fresh)
        self._graph.replay()
        return self._losses.clone()

    def _record(self, batch: Batch) -> None:
        self._batch = replace(
            batch,
            inputs=batch.inputs.clone(),
            targets=batch.targets.clone(),
            masks=[mask.clone() for mask in batch.masks],
        )
        state = self._stack.state()
        before = [each.clone() for each in state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._advance(self._batch)
        torch.cuda.current_stream().wait_stream(side)
        # The warm-ups were steps; the recording itself computes nothing.
        for each, value in zip(state, before, strict=True):
            each.copy_(value)
        self._graph, self._generation = torch.cuda.CUDAGraph(), self._stack.generation
        with torch.cuda.graph(self._graph):
            self._losses = self._advance(self._batch)


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.inputs, batch.targets, *batch.masks]
