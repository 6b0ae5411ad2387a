"""Long short-term memory: one batched product for all inputs, then position after position, the backward pass by hand.

By hand for the reason given in `recurrent`: the gradient of the recurrent weights is one product, not one a position.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hpcfsl.models.recurrent import Lstm
from hpcfsl.training.stacked.layers.linear import dense
from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(Lstm)
def lstm(layer: Lstm, weights: Weights, inputs: Tensor) -> Tensor:
    """Return outputs [n, positions, hidden] of inputs [n, positions, in]."""
    weight, recurrent = weights["weight_ih_l0"], weights["weight_hh_l0"]
    clients, positions = len(weight), inputs.shape[1]
    # [clients, positions, batch, ...] from here on: a position is a view, and so are all of them for the last product.
    ordered = inputs.unflatten(0, (clients, -1)).transpose(1, 2).flatten(0, 1)
    driven = dense(ordered, weight, weights["bias_ih_l0"] + weights["bias_hh_l0"]).unflatten(0, (clients, positions))
    # The recurrence stays in float32 under autocast: it rounds its own outputs again and again.
    states: Tensor = _Scan.apply(driven.float(), recurrent)
    return states.transpose(1, 2).flatten(0, 1)


class _Scan(torch.autograd.Function):
    """The recurrence from states of zeros; gates in torch's order: enter, forget, new, leave."""

    @staticmethod
    def forward(ctx: Any, driven: Tensor, weight: Tensor) -> Tensor:
        """Return states [clients, positions, batch, hidden].

        Args:
            ctx: What backward needs.
            driven: What the inputs and biases add to the gates, [clients, positions, batch, 4 * hidden].
            weight: [clients, 4 * hidden, hidden].
        """
        clients, positions, batch, width = driven.shape
        hidden, transposed = width // 4, weight.transpose(1, 2)
        gates, shown = torch.empty_like(driven), driven.new_empty(clients, positions, batch, hidden)
        # One position more, for the zeros that come before the first.
        cells, states = driven.new_zeros(2, clients, positions + 1, batch, hidden)
        with torch.autocast(driven.device.type, enabled=False):
            for place in range(positions):
                found = torch.baddbmm(driven[:, place], states[:, place], transposed)
                enter, forget, new, leave = found.chunk(4, dim=-1)
                enter.sigmoid_(), forget.sigmoid_(), new.tanh_(), leave.sigmoid_()
                gates[:, place] = found
                torch.addcmul(forget * cells[:, place], enter, new, out=cells[:, place + 1])
                torch.tanh(cells[:, place + 1], out=shown[:, place])
                torch.mul(leave, shown[:, place], out=states[:, place + 1])
        ctx.save_for_backward(weight, gates, shown, cells, states)
        outputs: Tensor = states[:, 1:]
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of both arguments of `forward`."""
        weight, gates, shown, cells, states = ctx.saved_tensors
        (outgoing,) = gradients
        clients, positions, batch, hidden = shown.shape
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        # What does not depend on what flows back, for all positions at once.
        of_cell = torch.cat(
            (new * enter * (1 - enter), cells[:, :-1] * forget * (1 - forget), enter * (1 - new.square())), dim=-1
        )
        to_leave, to_cell = shown * leave * (1 - leave), leave * (1 - shown.square())
        slopes = torch.empty_like(gates)
        carried, kept = weight.new_zeros(2, clients, batch, hidden)
        for place in reversed(range(positions)):
            flow, slope = carried + outgoing[:, place], slopes[:, place]
            inner = torch.addcmul(kept, flow, to_cell[:, place])
            slope[..., : 3 * hidden] = of_cell[:, place] * inner.repeat(1, 1, 3)
            torch.mul(flow, to_leave[:, place], out=slope[..., 3 * hidden :])
            carried, kept = torch.bmm(slope, weight), inner * forget[:, place]
        before: Tensor = states[:, :-1].reshape(clients, -1, hidden)
        return slopes, torch.bmm(slopes.flatten(1, 2).transpose(1, 2), before)
