"""A temporal convolutional network for windows of a series: causal dilated convolutions with residuals.

Layer 1. Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks for sequence
modeling" (2018), without its weight norm, which only reparametrises the same functions. The taps of block k lie 2^(k-1)
positions apart, so `blocks` of them see 1 + 2 (kernel - 1) (2^blocks - 1) positions; the last one tells the outputs.
Choose it for long windows, where a recurrent layer takes one step after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.model import Model, models
from hpcfsl.models.windows import STEPS_AHEAD, window_shape

if TYPE_CHECKING:
    from torch import nn


@models.register
class Tcn(Model):
    """Residual blocks of two causal dilated convolutions, the last position, linear outputs: steps or classes."""

    kind: ClassVar = "forecast"
    example: ClassVar = STEPS_AHEAD
    cuts: ClassVar = {
        "block<k>": "After residual block k: every position has seen 2 (kernel - 1) (2^k - 1) before it.",
        "last": "After the last position is picked: one vector a window; the server holds the last layer alone.",
    }

    name: Literal["tcn"] = "tcn"
    """The model."""

    cut: str = Field("block1", min_length=1)
    """The layer after which the model is cut: block1, block2, ... up to the last, last, or "none"."""

    channels: int = Field(32, ge=1, le=65536)
    """Channels of every block."""

    blocks: int = Field(4, ge=1, le=16)
    """Residual blocks; each doubles what is seen of the window."""

    kernel: int = Field(3, ge=2, le=64)
    """Width of the convolutions."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the numbers that is dropped in training after each convolution; 0 for none."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 23,212 parameters for 8 features and 12 steps ahead."""
        from torch import nn

        from hpcfsl.models.residual import CausalBlock
        from hpcfsl.models.sequences import Channels, LastPosition

        _, inward = window_shape(self.name, sample_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(window=Channels())
        for number in range(1, self.blocks + 1):
            layers[f"block{number}"] = CausalBlock(inward, self.channels, self.kernel, 1 << number - 1, self.dropout)
            inward = self.channels
        layers.update(last=LastPosition(axis=2), linear=nn.Linear(inward, num_outputs))
        return nn.Sequential(layers)
