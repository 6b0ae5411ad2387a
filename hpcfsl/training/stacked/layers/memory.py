"""Long short-term memory: one batched product for all inputs, then position after position."""

from __future__ import annotations

import torch
from torch import Tensor

from hpcfsl.models.recurrent import Lstm
from hpcfsl.training.stacked.layers.linear import dense
from hpcfsl.training.stacked.layers.registry import Weights, stacks


@stacks(Lstm)
def lstm(layer: Lstm, weights: Weights, inputs: Tensor) -> Tensor:
    """Return outputs [n, positions, hidden] of inputs [n, positions, in]."""
    weight, recurrent = weights["weight_ih_l0"], weights["weight_hh_l0"]
    clients = len(weight)
    # [clients, positions, batch, ...] from here on: a position is a view.
    ordered = inputs.unflatten(0, (clients, -1)).transpose(1, 2).flatten(0, 1)
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    driven = dense(ordered, weight, bias).unflatten(0, (clients, -1)).float()
    with torch.autocast(
        driven.device.type, enabled=False
    ):  # the recurrence would round its own outputs again and again
        states = _scan(driven, recurrent.transpose(1, 2))
    return torch.stack(states, dim=2).flatten(0, 1)


def _scan(driven: Tensor, recurrent: Tensor) -> list[Tensor]:
    """Return the hidden state of each position, [clients, batch, hidden]; gates in torch's order: in, forget, new, out.

    Args:
        driven: What inputs and biases add to the gates, [clients, positions, batch, 4 * hidden].
        recurrent: [clients, hidden, 4 * hidden].
    """
    states: list[Tensor] = []
    cell = driven.new_zeros(())
    for given in driven.unbind(1):
        gates = torch.baddbmm(given, states[-1], recurrent) if states else given
        enter, forget, new, leave = gates.chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        states.append(leave.sigmoid() * cell.tanh())
    return states
