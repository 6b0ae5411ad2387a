"""Convolutions over time for sound: on the wave itself, or on the frames of a spectrum.

Layer 1. On a wave it is M5 of Dai et al., "Very deep convolutional neural networks for raw waveforms" (ICASSP 2017),
with group norm in the place of batch norm; on a spectrum the bands are the channels of the first convolution, and the
kernels and pools are small. Choose it for `features = "waveform"`, where no spectrum is wanted, or as the lightest
model of log-mel or MFCC frames.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Model, Samples, models
from hpcfsl.models.sounds import sound_shape

if TYPE_CHECKING:
    from torch import nn


@models.register
class SpeechCnn1d(Model):
    """Four times convolution over time, group norm, ReLU and max-pool; then the mean over time and linear classes."""

    kind: ClassVar = "speech"
    example: ClassVar = Samples(shape=(1, 8000), num_outputs=10, title="a second of sound at 8 kHz")
    cuts: ClassVar = {
        "conv<k>": "After convolution k of 4; conv1 looks at 10 ms of a wave at 8 kHz, or at 3 frames.",
        "norm<k>": "After group norm k of 4.",
        "relu<k>": "After activation k of 4.",
        "pool<k>": "After max-pool k of 4, which leaves a quarter of a wave's steps, or half of the frames.",
        "mean": "After the mean over time: one vector a recording; the server holds the classifier alone.",
        "flatten": "The same vector as after mean.",
    }

    name: Literal["speech-cnn1d"] = "speech-cnn1d"
    """The model."""

    cut: str = Field("pool1", min_length=1)
    """The layer after which the model is cut: conv1, norm1, relu1, pool1, and so on up to pool4, mean, flatten, or
    "none"."""

    channels: int = Field(32, ge=1, le=4096)
    """Maps of the first two convolutions; the third has twice, the fourth four times as many. 128 is the paper's M5."""

    groups: int = Field(8, ge=1, le=4096)
    """Groups of channels of each norm; must divide `channels`."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 38,410 parameters for a wave and 10 classes."""
        from torch import nn

        bands, steps = sound_shape(self.name, sample_shape)
        wave = len(sample_shape) == 2 and bands == 1
        smallest = 80 + 4 * 255 if wave else 16  # one number must be left after the last pool
        if steps < smallest:
            fix = f"needs sound of {smallest} steps or more, the samples are {list(sample_shape)}; make them longer"
            raise ConfigError("model.name", self.name, fix)
        if self.channels % self.groups:
            raise ConfigError(
                "model.groups", self.groups, f"must divide model.channels = {self.channels}; use a divisor"
            )
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if len(sample_shape) == 3:
            layers["frames"] = nn.Flatten(1, 2)
        inward = bands
        for number, times in enumerate((1, 1, 2, 4), start=1):
            first, outward = wave and number == 1, self.channels * times
            layers[f"conv{number}"] = (
                nn.Conv1d(inward, outward, 80, 4) if first else nn.Conv1d(inward, outward, 3, padding=1)
            )
            layers[f"norm{number}"] = nn.GroupNorm(self.groups, outward)
            layers[f"relu{number}"] = nn.ReLU()
            layers[f"pool{number}"] = nn.MaxPool1d(4 if wave else 2)
            inward = outward
        layers.update(mean=nn.AdaptiveAvgPool1d(1), flatten=nn.Flatten(), linear=nn.Linear(inward, num_outputs))
        return nn.Sequential(layers)
