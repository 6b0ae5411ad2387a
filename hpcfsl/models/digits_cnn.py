"""A small convolutional network for 8 x 8 images, the default model: two convolutions and two linear layers.

Layer 1. Choose it for the digits data and for quick experiments; it trains in seconds on a processor. Any image size
from 2 x 2 works, but for 28 x 28 and larger `lenet5` and `cifar-cnn` are better matched.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.images import image_shape
from hpcfsl.models.model import Model, Samples, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class DigitsCnn(Model):
    """Convolution 16, convolution 32, max-pool, linear 64, linear classes."""

    kind: ClassVar = "image"
    example: ClassVar = Samples(shape=(1, 8, 8), num_outputs=10, title="a digit of 8 x 8")
    cuts: ClassVar = {
        "conv1": "After the first convolution, before its activation; easiest to invert.",
        "relu1": "After the first activation: full resolution, next to no work on the client.",
        "conv2": "After the second convolution, before its activation.",
        "relu2": "After the second activation, at full resolution: the most to send.",
        "pool": "After max-pool, which leaves a quarter of the numbers.",
        "flatten": "The same numbers as one vector.",
        "linear1": "After the hidden layer's product; with relu3 the smallest smashed data.",
        "relu3": "After the hidden layer's activation; the server holds the classifier alone.",
    }

    name: Literal["digits-cnn"] = "digits-cnn"
    """The model."""

    cut: str = Field("relu1", min_length=1)
    """The layer after which the model is cut: conv1, relu1, conv2, relu2, pool, flatten, linear1, relu3, or "none"."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 38,282 parameters for 1 x 8 x 8 samples and 10 classes."""
        from torch import nn

        channels, height, width = image_shape(self.name, sample_shape, 2)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 16, 3, padding=1),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(16, 32, 3, padding=1),
                relu2=nn.ReLU(),
                pool=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                linear1=nn.Linear(32 * (height // 2) * (width // 2), 64),
                relu3=nn.ReLU(),
                linear2=nn.Linear(64, num_outputs),
            )
        )
