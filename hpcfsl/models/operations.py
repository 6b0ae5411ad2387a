"""How many floating-point operations each half of a split model takes for one sample: forward and backward.

Layer 1. torch itself counts while it trains on one sample, so any module works that torch can train: a multiplication
and an addition are two operations; products of matrices, convolutions and attention count, everything else is free.
The client half needs no gradient of its input; the server half makes the gradient that goes down.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import Tensor, nn

from hpcfsl.models import chains
from hpcfsl.models.checks import trial_inputs
from hpcfsl.models.split import SplitModel, cut_at, cut_points

T = TypeVar("T")

# RuntimeError: no kernel on the device "meta"; TypeError: a module hands tensors to numpy, which needs their values.
_UNCOUNTED = (RuntimeError, TypeError)


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

    def count(device: str) -> HalfOperations:
        client, smashed = _count(model.client_half, model.trial[:1], device)
        server, returned = _count(model.server_half, smashed, device)
        tail, _ = _count(model.tail, returned, device)
        return HalfOperations(client=client + tail, server=server)

    return _on_some_device(count)


@dataclass(frozen=True, kw_only=True)
class UndoOperations:
    """Operations of undoing what an attacker taught a shared server half, for one sample.

    Attributes:
        screened: Of the client half's forward pass, which screening takes once more.
        replayed: Of the server half in a replay: forward and backward, without the gradient that would go down.
    """

    screened: int = 0
    replayed: int = 0


def count_undo(model: SplitModel) -> UndoOperations:
    """Return what undoing costs; raises as `count_halves`."""

    def count(device: str) -> UndoOperations:
        screened, smashed = _count(model.client_half, model.trial[:1], device, backward=False)
        replayed, _ = _count(model.server_half, smashed.detach(), device)
        return UndoOperations(screened=screened, replayed=replayed)

    return _on_some_device(count)


def _on_some_device(count: Callable[[str], T]) -> T:
    """Return what `count` returns for the first device that it works on.

    Tensors without values cost nothing, and no fused kernel hides its products from the counter; a module that makes
    tensors of its own on the processor needs the real thing.
    """
    problems = []
    for device in ("meta", "cpu"):
        try:
            return count(device)
        except _UNCOUNTED as error:
            problems.append(str(error))
    raise ValueError(f"torch cannot count the model's operations ({problems[-1]})")


@dataclass(frozen=True, kw_only=True)
class CutCost:
    """What a cut costs for one sample.

    Attributes:
        name: The layer after which the model is cut.
        operations: Of both halves, forward and backward.
        client_parameters: Of the client half.
        server_parameters: Of the server half.
        smashed_shape: Shape of the smashed data.
    """

    name: str
    operations: HalfOperations
    client_parameters: int
    server_parameters: int
    smashed_shape: tuple[int, ...]

    @property
    def smashed_numbers(self) -> int:
        """Numbers in the smashed data of one sample."""
        return prod(self.smashed_shape)


def count_cuts(module: nn.Module, sample_shape: tuple[int, ...], vocabulary: int) -> list[CutCost]:
    """Return what each cut of a module costs, in the order of its layers; a chain is run once for all of them.

    Args:
        module: May have no values, on the device "meta".
        sample_shape: Shape of one sample.
        vocabulary: Number of symbols where samples are symbols; 0 where they are numbers.

    Raises:
        ValueError: torch cannot count the operations; the text says why.
    """
    inputs = trial_inputs(sample_shape, vocabulary)[:1].to("meta")
    try:
        if chains.is_chain(module):
            return _count_chain(module, inputs)
        return [_count_cut(cut, *cut_at(module, cut), inputs) for cut in cut_points(module)]
    except _UNCOUNTED as error:
        raise ValueError(f"torch cannot count the model's operations ({error})") from error


def _count_chain(module: nn.Module, value: Tensor) -> list[CutCost]:
    # A layer costs the same on either side: the gradient of its input is made if and only if there is something to
    # train before it, and a cut leaves something to train on both sides.
    done: dict[str, tuple[int, int, tuple[int, ...]]] = {}
    operations, seen = 0, dict[int, int]()
    for name in chains.list_layers(module):
        layer = module.get_submodule(name)
        if not chains.is_chain(layer):  # a chain ends with the last of its layers, which is counted
            more, value = _count(layer, value, "meta")
            operations += more
            seen |= {id(parameter): parameter.numel() for parameter in layer.parameters()}
            value.requires_grad_(bool(seen))
        done[name] = (operations, sum(seen.values()), tuple(value.shape[1:]))
    return [
        CutCost(
            name=name,
            operations=HalfOperations(client=done[name][0], server=operations - done[name][0]),
            client_parameters=done[name][1],
            server_parameters=sum(seen.values()) - done[name][1],
            smashed_shape=done[name][2],
        )
        for name in cut_points(module)
    ]


def _count_cut(name: str, client: nn.Module, server: nn.Module, inputs: Tensor) -> CutCost:
    below, smashed = _count(client, inputs, "meta")
    above, _ = _count(server, smashed, "meta")
    sizes = [sum(parameter.numel() for parameter in half.parameters()) for half in (client, server)]
    return CutCost(
        name=name,
        operations=HalfOperations(client=below, server=above),
        client_parameters=sizes[0],
        server_parameters=sizes[1],
        smashed_shape=tuple(smashed.shape[1:]),
    )


def _count(half: nn.Module, inputs: Tensor, device: str, *, backward: bool = True) -> tuple[int, Tensor]:
    """Return the operations of one half, forward and perhaps backward, and its outputs, which want a gradient."""
    from torch.utils.flop_counter import FlopCounterMode

    half, inputs = copy.deepcopy(half).to(device), inputs.to(device)
    with FlopCounterMode(display=False) as counter:
        outputs = half(inputs)
        if backward and outputs.requires_grad:
            torch.autograd.backward(outputs, torch.empty_like(outputs))
    return counter.get_total_flops(), outputs.detach().requires_grad_()
