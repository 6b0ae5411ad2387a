"""The convolutional network that federated benchmarks train on CIFAR-10: two convolutions, two linear layers.

Layer 1. McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS 2017),
made a network of this kind customary; the layer sizes are those of the PFL benchmarks for CIFAR-10. Dropout is left
out: its randomness would have to be keyed by client and step. Choose it for 32 x 32 colour images.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpcfsl.models.model import Model, image_shape, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class CifarCnn(Model):
    """Convolution 32, convolution 64, max-pool, linear 128, linear classes."""

    name: Literal["cifar-cnn"] = "cifar-cnn"
    """The model."""

    cut: str = Field("relu1", min_length=1)
    """The layer after which the model is cut: conv1, relu1, conv2, relu2, pool, flatten, linear1, relu3, or "none"."""

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Return the module; 1,626,442 parameters for 3 x 32 x 32 samples and 10 classes."""
        from torch import nn

        channels, height, width = image_shape(self.name, sample_shape, 6)
        # Each convolution without padding takes one row or column off each side.
        pooled = ((height - 4) // 2) * ((width - 4) // 2)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 32, 3),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 64, 3),
                relu2=nn.ReLU(),
                pool=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                linear1=nn.Linear(64 * pooled, 128),
                relu3=nn.ReLU(),
                linear2=nn.Linear(128, num_classes),
            )
        )
