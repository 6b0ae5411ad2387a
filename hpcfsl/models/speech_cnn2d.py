"""Convolutions over frequency and time for the spectrum of a short recording, then two linear layers.

Layer 1. Sainath and Parada, "Convolutional neural networks for small-footprint keyword spotting" (Interspeech 2015):
a log-mel spectrum is an image in which a shift in either direction means little. Their two large kernels are three of
3 x 3 here, each pooled in both directions (Simonyan and Zisserman, ICLR 2015). Choose it for keywords and spoken digits
with `features = "log-mel"`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.images import image_shape
from hpcfsl.models.model import Model, models
from hpcfsl.models.sounds import LOG_MEL

if TYPE_CHECKING:
    from torch import nn


@models.register
class SpeechCnn2d(Model):
    """Three times convolution 3 x 3, ReLU and max-pool over bands and time; linear hidden, linear classes."""

    kind: ClassVar = "speech"
    example: ClassVar = LOG_MEL
    cuts: ClassVar = {
        "conv<k>": "After convolution k of 3, before its activation.",
        "relu<k>": "After activation k; relu4 is the hidden layer's.",
        "pool<k>": "After max-pool k of 3, which halves bands and steps; what is said fades with each.",
        "flatten": "All maps as one vector; the server holds the two linear layers.",
        "dropout": "The same vector with numbers dropped; only where dropout is above 0.",
        "linear1": "After the hidden layer's product; the smallest smashed data, with relu4.",
    }

    name: Literal["speech-cnn2d"] = "speech-cnn2d"
    """The model."""

    cut: str = Field("pool1", min_length=1)
    """The layer after which the model is cut: conv1, relu1, pool1, conv2, relu2, pool2, conv3, relu3, pool3, flatten,
    dropout, linear1, relu4, or "none"."""

    channels: int = Field(16, ge=1, le=4096)
    """Maps of the first convolution; the second has twice, the third four times as many."""

    hidden: int = Field(64, ge=1, le=65536)
    """Width of the hidden linear layer."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the flattened maps that is dropped in training; 0 leaves the layer out."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 167,370 parameters for 40 x 61 samples and 10 classes."""
        from torch import nn

        inward, bands, steps = image_shape(self.name, sample_shape, 8)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number in (1, 2, 3):
            outward = self.channels << number - 1
            layers[f"conv{number}"] = nn.Conv2d(inward, outward, 3, padding=1)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            inward = outward
        layers["flatten"] = nn.Flatten()
        if self.dropout:
            layers["dropout"] = nn.Dropout(self.dropout)
        layers["linear1"] = nn.Linear(inward * (bands // 8) * (steps // 8), self.hidden)
        layers["relu4"] = nn.ReLU()
        layers["linear2"] = nn.Linear(self.hidden, num_outputs)
        return nn.Sequential(layers)
