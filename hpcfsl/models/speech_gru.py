"""A recurrent model of spoken words: gated recurrent units over the frames of a spectrum, linear classes.

Layer 1. Recurrent networks over frames go back to Graves, Mohamed and Hinton, "Speech recognition with deep recurrent
neural networks" (ICASSP 2013); Zhang et al., "Hello edge: keyword spotting on microcontrollers" (2017), compare this
form with convolutions. Choose it where memory is small: it has few parameters, and takes frames one after the other.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.model import Model, models
from hpcfsl.models.sounds import LOG_MEL, frames_shape

if TYPE_CHECKING:
    from torch import nn


@models.register
class SpeechGru(Model):
    """Frames in a row, one or more recurrent layers, the mean of their states or the last one, linear classes."""

    kind: ClassVar = "speech"
    example: ClassVar = LOG_MEL
    cuts: ClassVar = {
        "gru<k>": "After recurrent layer k: a hidden state for every frame.",
        "pool": "After the mean over frames, or the last frame: one vector; the server holds the classifier alone.",
    }

    name: Literal["speech-gru"] = "speech-gru"
    """The model."""

    cut: str = Field("gru1", min_length=1)
    """The layer after which the model is cut: gru1, gru2, ... up to the last, pool, or "none"."""

    hidden: int = Field(64, ge=1, le=65536)
    """Width of the hidden states."""

    layers: int = Field(1, ge=1, le=16)
    """Recurrent layers, one above the other."""

    pool: Literal["mean", "last"] = "mean"
    """What the classes are told from: the mean of the hidden states, or the last one."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 21,002 parameters for 40 bands and 10 classes."""
        from torch import nn

        from hpcfsl.models.recurrent import Gru
        from hpcfsl.models.sequences import LastPosition, MeanPosition, Steps

        inward, _ = frames_shape(self.name, sample_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(frames=Steps())
        for number in range(1, self.layers + 1):
            layers[f"gru{number}"] = Gru(inward, self.hidden)
            inward = self.hidden
        layers["pool"] = MeanPosition() if self.pool == "mean" else LastPosition()
        layers["linear"] = nn.Linear(self.hidden, num_outputs)
        return nn.Sequential(layers)
