"""How many floating-point operations each half of a split model takes for one sample: forward and backward.

Layer 1. torch itself counts while it trains on one sample, so any module works that torch can train: a multiplication
and an addition are two operations; products of matrices, convolutions and attention count, everything else is free.
The client half needs no gradient of its input; the server half makes the gradient that goes down.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from hpcfsl.models.split import SplitModel


@dataclass(frozen=True, kw_only=True)
class HalfOperations:
    """Operations of training on one sample; a tail is the client's, and the server's are 0 where nothing is cut."""

    client: int
    server: int


def count_halves(model: SplitModel) -> HalfOperations:
    """Return the operations of both halves of `model` for one sample.

    Raises:
        ValueError: torch cannot count them; the text says why.
    """
    problems = []
    # Tensors without values cost nothing, and no fused kernel hides its products from the counter; a module that makes
    # tensors of its own on the processor needs the real thing.
    for device in ("meta", "cpu"):
        try:
            client, smashed = _count(model.client_half, model.trial[:1], device)
            server, returned = _count(model.server_half, smashed, device)
            tail, _ = _count(model.tail, returned, device)
            return HalfOperations(client=client + tail, server=server)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            problems.append(str(error))
    raise ValueError(f"torch cannot count the model's operations ({problems[-1]})")


def _count(half: nn.Module, inputs: Tensor, device: str) -> tuple[int, Tensor]:
    """Return the operations of one half, forward and backward, and its outputs, which want a gradient."""
    from torch.utils.flop_counter import FlopCounterMode

    half, inputs = copy.deepcopy(half).to(device), inputs.to(device)
    with FlopCounterMode(display=False) as counter:
        outputs = half(inputs)
        if any(True for _ in half.parameters()):
            outputs.sum().backward()
    return counter.get_total_flops(), outputs.detach().requires_grad_()
