"""Recurrent layers as layers of a `torch.nn.Sequential`: a gated recurrent unit, and long short-term memory.

Layer 1. `Gru`: Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
translation" (EMNLP 2014), with the parameters of `torch.nn.GRU`. `Lstm`: Hochreiter and Schmidhuber, "Long short-term
memory" (Neural Computation 9, 1997), with the parameters of `torch.nn.LSTM`. Choose them for models over sequences;
torch's own return a pair, which no Sequential passes on. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def _outputs_alone(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return torch's `forward` without the last state; the type is torch's own of every module's `forward`."""

    def outputs(layer: nn.RNNBase, inputs: Tensor) -> Tensor:
        """Return the hidden states [n, positions, hidden_size] of inputs [n, positions, input_size]."""
        states: Tensor = forward(layer, inputs)[0]
        return states

    return outputs


class Gru(nn.GRU):
    """One layer in one direction, batch first, that starts from a hidden state of zeros.

    Args:
        input_size: Features at each position.
        hidden_size: Width of the hidden state.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    forward = _outputs_alone(nn.GRU.forward)


class Lstm(nn.LSTM):
    """One layer in one direction, batch first, that starts from states of zeros; arguments as those of `Gru`."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    forward = _outputs_alone(nn.LSTM.forward)
