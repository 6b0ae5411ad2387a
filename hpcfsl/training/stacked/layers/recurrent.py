"""Gated recurrent units: one batched product for all inputs, then position after position, the backward pass by hand.

By hand because the derivatives of all positions then lie in one tensor, and the gradient of the recurrent weights is
one batched product instead of one a position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hpcfsl.models.recurrent import Gru
from hpcfsl.training.stacked.layers.linear import dense
from hpcfsl.training.stacked.layers.registry import Weights, stacks


def _is_unusual(layer: nn.GRU) -> bool:
    return not layer.batch_first or layer.bidirectional or layer.dropout > 0


@stacks(nn.GRU, unless=_is_unusual)
def gru(layer: nn.GRU, weights: Weights, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs [n, positions, hidden] and last states [layers, n, hidden] of inputs [n, positions, in]."""
    last = []
    for number in range(layer.num_layers):
        inputs = _one_layer(weights, f"_l{number}", inputs)
        last.append(inputs[:, -1])
    return inputs, torch.stack(last)


@stacks(Gru)
def gru_of_chains(layer: Gru, weights: Weights, inputs: Tensor) -> Tensor:
    """Return outputs [n, positions, hidden] of inputs [n, positions, in]."""
    return _one_layer(weights, "_l0", inputs)


def _one_layer(weights: Weights, suffix: str, inputs: Tensor) -> Tensor:
    weight, recurrent = weights["weight_ih" + suffix], weights["weight_hh" + suffix]
    bias, recurrent_bias = weights.get("bias_ih" + suffix), weights.get("bias_hh" + suffix)
    clients, positions = len(weight), inputs.shape[1]
    if recurrent_bias is None:
        recurrent_bias = recurrent.new_zeros(recurrent.shape[:2])
    # [clients, positions, batch, ...] from here on: a position is a view, and so are all of them for the last product.
    ordered = inputs.unflatten(0, (clients, -1)).transpose(1, 2).flatten(0, 1)
    driven = dense(ordered, weight, bias).unflatten(0, (clients, positions))
    # The recurrence stays in float32 under autocast: it rounds its own outputs again and again.
    states: Tensor = _Scan.apply(driven.float(), recurrent, recurrent_bias)
    return states.transpose(1, 2).flatten(0, 1)


class _Scan(torch.autograd.Function):
    """The recurrence from a state of zeros; gates in torch's order: reset, update, new."""

    @staticmethod
    def forward(ctx: Any, driven: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return states [clients, positions, batch, hidden].

        Args:
            ctx: What backward needs.
            driven: What the inputs add to the gates, [clients, positions, batch, 3 * hidden].
            weight: [clients, 3 * hidden, hidden].
            bias: [clients, 3 * hidden].
        """
        clients, positions, batch, width = driven.shape
        hidden = width // 3
        gates = torch.empty(clients, positions, batch, 2 * hidden, device=driven.device)
        fresh, inner = (torch.empty(clients, positions, batch, hidden, device=driven.device) for _ in range(2))
        # One position more, for the zeros that come before the first.
        states = driven.new_zeros(clients, positions + 1, batch, hidden)
        transposed, shift = weight.transpose(1, 2), bias[:, None]
        with torch.autocast(driven.device.type, enabled=False):
            for place in range(positions):
                before, given = states[:, place], driven[:, place]
                back = torch.baddbmm(shift, before, transposed)
                gate, new = gates[:, place], fresh[:, place]
                torch.add(given[..., : 2 * hidden], back[..., : 2 * hidden], out=gate).sigmoid_()
                inner[:, place] = back[..., 2 * hidden :]
                torch.addcmul(given[..., 2 * hidden :], gate[..., :hidden], inner[:, place], out=new).tanh_()
                torch.lerp(new, before, gate[..., hidden:], out=states[:, place + 1])
        ctx.save_for_backward(weight, gates, fresh, inner, states)
        return states[:, 1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the three arguments of `forward`."""
        weight, gates, fresh, inner, states = ctx.saved_tensors
        (outgoing,) = gradients
        clients, positions, batch, hidden = fresh.shape
        reset, update, before = gates[..., :hidden], gates[..., hidden:], states[:, :-1]
        # What does not depend on what flows back, for all positions at once.
        to_new = (1 - update) * (1 - fresh.square())
        to_update = (before - fresh) * update * (1 - update)
        to_reset = inner * reset * (1 - reset)
        slopes = torch.empty(clients, positions, batch, 3 * hidden, device=weight.device)
        news = torch.empty_like(fresh)
        carried = torch.zeros(clients, batch, hidden, device=weight.device)
        for place in reversed(range(positions)):
            flow, slope, new = carried.add_(outgoing[:, place]), slopes[:, place], news[:, place]
            torch.mul(flow, to_new[:, place], out=new)
            torch.mul(new, to_reset[:, place], out=slope[..., :hidden])
            torch.mul(flow, to_update[:, place], out=slope[..., hidden : 2 * hidden])
            torch.mul(new, reset[:, place], out=slope[..., 2 * hidden :])
            carried = torch.baddbmm(flow.mul_(update[:, place]), slope, weight)
        rows = slopes.flatten(1, 2)
        weight_gradient = torch.bmm(rows.transpose(1, 2), before.reshape(clients, -1, hidden))
        driven_gradient = slopes.clone()
        driven_gradient[..., 2 * hidden :] = news
        return driven_gradient, weight_gradient, rows.sum(dim=1)
