"""Layers without parameters between sound, windows and recurrent layers: the order of axes, and one position for all.

Layer 1. A sound's spectrum is [1, bands, steps], a line for convolutions [channels, positions], a sequence for
recurrent layers [positions, features]. Choose these in an `nn.Sequential`, where a lambda could not be cut or compiled.
Importing this module imports torch.
"""

from __future__ import annotations

from torch import Tensor, nn


class Steps(nn.Module):
    """Rows over time as a sequence: [n, ..., positions] to [n, positions, features], all axes between as features."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, positions, features] of inputs [n, ..., positions]."""
        return inputs.flatten(1, -2).transpose(1, 2)


class Channels(nn.Module):
    """A sequence as a line for convolutions: [n, positions, features] to [n, features, positions]."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, features, positions] of inputs [n, positions, features]."""
        return inputs.transpose(1, 2)


class LastPosition(nn.Module):
    """The last position of a sequence: what a causal layer knows once it has read all of it.

    Args:
        axis: The axis of the positions: 1 in a sequence [n, positions, features], 2 in a line [n, channels, positions].
    """

    def __init__(self, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, features] of three axes."""
        return inputs.select(self.axis, -1)


class MeanPosition(nn.Module):
    """The mean over the positions of a sequence."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, features] of inputs [n, positions, features]."""
        return inputs.mean(dim=1)
