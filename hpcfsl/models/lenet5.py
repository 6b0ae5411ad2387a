"""LeNet-5 for 28 x 28 and 32 x 32 images, with ReLU and max-pooling in place of the original's tanh and averages.

Layer 1. LeCun et al., "Gradient-based learning applied to document recognition" (Proc. IEEE 86, 1998). Choose it for
Fashion-MNIST and other data of that size.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.images import image_shape
from hpcfsl.models.model import Model, Samples, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class LeNet5(Model):
    """Convolution 6, pool, convolution 16, pool, linear 120, linear 84, linear classes."""

    kind: ClassVar = "image"
    example: ClassVar = Samples(shape=(1, 28, 28), num_outputs=10, title="a Fashion-MNIST image")
    cuts: ClassVar = {
        "conv1": "After the first convolution, before its activation; easiest to invert.",
        "relu1": "After the first activation, at full resolution: the most to send.",
        "pool1": "After the first max-pool: a quarter of that, for next to no work on the client.",
        "conv2": "After the second convolution, before its activation.",
        "relu2": "After the second activation.",
        "pool2": "After the second max-pool: 400 numbers.",
        "flatten": "The same 400 numbers as one vector.",
        "linear1": "After the first hidden layer's product.",
        "relu3": "After the first hidden layer's activation.",
        "linear2": "After the second hidden layer's product.",
        "relu4": "After the second hidden layer's activation; the server holds the classifier alone.",
    }

    name: Literal["lenet5"] = "lenet5"
    """The model."""

    cut: str = Field("pool1", min_length=1)
    """The layer after which the model is cut: conv1, relu1, pool1, conv2, relu2, pool2, flatten, linear1, relu3,
    linear2, relu4, or "none"."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 61,706 parameters for one channel and 10 classes."""
        from torch import nn

        channels, height, width = image_shape(self.name, sample_shape, 28)
        if (height, width) not in ((28, 28), (32, 32)):
            raise ConfigError(
                "model.name",
                self.name,
                f"needs images of 28 x 28 or 32 x 32, the samples are {height} x {width}; choose 'cifar-cnn'",
            )
        return nn.Sequential(
            OrderedDict(
                # The original was fed 28 x 28 digits in a frame of two pixels.
                conv1=nn.Conv2d(channels, 6, 5, padding=2 if height == 28 else 0),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                linear1=nn.Linear(16 * 5 * 5, 120),
                relu3=nn.ReLU(),
                linear2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                linear3=nn.Linear(84, num_outputs),
            )
        )
