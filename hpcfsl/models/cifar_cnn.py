"""The convolutional network that federated benchmarks train on CIFAR-10: two convolutions, two linear layers.

Layer 1. McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS 2017),
made a network of this kind customary; the layers are those of the PFL benchmarks for CIFAR-10, which drop out too:
`dropout1 = 0.25` and `dropout2 = 0.5` give their model. Choose it for 32 x 32 colour images.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.images import CIFAR_10, image_shape
from hpcfsl.models.model import Model, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class CifarCnn(Model):
    """Convolution 32, convolution 64, max-pool, linear 128, linear classes; dropout before each linear layer."""

    kind: ClassVar = "image"
    example: ClassVar = CIFAR_10
    cuts: ClassVar = {
        "conv1": "After the first convolution, before its activation; easiest to invert.",
        "relu1": "After the first activation: next to no work on the client.",
        "conv2": "After the second convolution, before its activation.",
        "relu2": "After the second activation: the most to send.",
        "pool": "After max-pool, which leaves a quarter of the numbers.",
        "dropout1": "The pooled maps with numbers dropped; only where dropout1 is above 0.",
        "flatten": "The pooled maps as one vector; the server holds both linear layers, nearly all parameters.",
        "linear1": "After the hidden layer's product.",
        "relu3": "After the hidden layer's activation; the server holds the classifier alone.",
        "dropout2": "The hidden layer with numbers dropped; only where dropout2 is above 0.",
    }

    name: Literal["cifar-cnn"] = "cifar-cnn"
    """The model."""

    cut: str = Field("relu1", min_length=1)
    """The layer after which the model is cut: conv1, relu1, conv2, relu2, pool, dropout1, flatten, linear1, relu3,
    dropout2, or "none"."""

    dropout1: float = Field(0.0, ge=0, lt=1)
    """Share of the pooled features that is dropped in training; 0 leaves the layer out."""

    dropout2: float = Field(0.0, ge=0, lt=1)
    """Share of the hidden features that is dropped in training; 0 leaves the layer out."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 1,626,442 parameters for 3 x 32 x 32 samples and 10 classes."""
        from torch import nn

        channels, height, width = image_shape(self.name, sample_shape, 6)
        # Each convolution without padding takes one row or column off each side.
        pooled = ((height - 4) // 2) * ((width - 4) // 2)
        layers = OrderedDict(
            conv1=nn.Conv2d(channels, 32, 3),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 3),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            dropout1=nn.Dropout(self.dropout1),
            flatten=nn.Flatten(),
            linear1=nn.Linear(64 * pooled, 128),
            relu3=nn.ReLU(),
            dropout2=nn.Dropout(self.dropout2),
            linear2=nn.Linear(128, num_outputs),
        )
        # A layer that does nothing would still be a place to cut at.
        idle = [name for name, layer in layers.items() if isinstance(layer, nn.Dropout) and layer.p == 0]
        return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if name not in idle))
