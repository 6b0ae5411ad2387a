"""A recurrent model of a window of a series: gated recurrent units, then all steps ahead, or classes, at once.

Layer 1. The encoder of Cho et al. (EMNLP 2014) with a linear layer on its last state, the direct strategy for many
steps ahead (Ben Taieb et al., "A review and comparison of strategies for multi-step ahead time series forecasting",
2012): one output a step, none fed back. Choose it for windows whose last positions matter most.
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
class GruForecast(Model):
    """One or more recurrent layers over a window, the last state, linear outputs: steps ahead, or classes."""

    kind: ClassVar = "forecast"
    example: ClassVar = STEPS_AHEAD
    cuts: ClassVar = {
        "gru<k>": "After recurrent layer k: a hidden state for every position.",
        "last": "After the last position is picked: one vector a window; the server holds the last layer alone.",
    }

    name: Literal["gru-forecast"] = "gru-forecast"
    """The model."""

    cut: str = Field("gru1", min_length=1)
    """The layer after which the model is cut: gru1, gru2, ... up to the last, last, or "none"."""

    hidden: int = Field(64, ge=1, le=65536)
    """Width of the hidden states."""

    layers: int = Field(1, ge=1, le=16)
    """Recurrent layers, one above the other."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 14,988 parameters for 8 features and 12 steps ahead."""
        from torch import nn

        from hpcfsl.models.recurrent import Gru
        from hpcfsl.models.sequences import LastPosition

        _, inward = window_shape(self.name, sample_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, self.layers + 1):
            layers[f"gru{number}"] = Gru(inward, self.hidden)
            inward = self.hidden
        layers.update(last=LastPosition(), linear=nn.Linear(self.hidden, num_outputs))
        return nn.Sequential(layers)
