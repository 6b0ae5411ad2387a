"""ResNet-18 with group norm: a stem, eight residual blocks, the mean over all pixels, linear classes.

Layer 1. He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (CVPR 2016), with the group norm of Wu
and He (ECCV 2018) in the place of batch norm, whose statistics differ from client to client and cost accuracy where
their classes do (Hsieh et al., "The non-IID data quagmire of decentralized machine learning", ICML 2020). Choose it for
colour images where accuracy is worth thirty times the work of `cifar-cnn`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.images import CIFAR_10, image_shape
from hpcfsl.models.model import Model, models

if TYPE_CHECKING:
    from torch import nn

_LARGE = 64


@models.register
class ResNet18(Model):
    """Stem, eight residual blocks of two 3 x 3 convolutions with group norm, mean over pixels, linear classes."""

    kind: ClassVar = "image"
    example: ClassVar = CIFAR_10
    cuts: ClassVar = {
        "conv1": "After the stem's convolution: full resolution, next to no work on the client; easiest to invert.",
        "norm1": "After the stem's group norm.",
        "relu1": "After the stem's activation, still at full resolution below 64 x 64.",
        "pool1": "After the stem's max-pool, at a quarter of the resolution; images of 64 x 64 and more only.",
        "block<k>": "After residual block k of 8; blocks 3, 5 and 7 halve the resolution and double the channels.",
        "pool": "After the mean over pixels: one vector; the server holds the classifier alone.",
        "flatten": "The same vector as after pool.",
    }

    name: Literal["resnet18"] = "resnet18"
    """The model."""

    cut: str = Field("block2", min_length=1)
    """The layer after which the model is cut: conv1, norm1, relu1, pool1 (large images), block1 ... block8, pool,
    flatten, or "none"."""

    width: int = Field(64, ge=1, le=4096)
    """Channels of the stem and the first two blocks; the last two have eight times as many."""

    groups: int = Field(32, ge=1, le=4096)
    """Groups of channels of each norm; must divide `width`."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; 11,173,962 parameters for 3 x 32 x 32 samples and 10 classes.

        Images below 64 x 64 get the 3 x 3 stem of the paper's CIFAR networks, larger ones the 7 x 7 stem and max-pool
        of its ImageNet networks.
        """
        from torch import nn

        from hpcfsl.models.residual import ResidualBlock

        channels, height, width = image_shape(self.name, sample_shape, 8)
        if self.width % self.groups:
            raise ConfigError("model.groups", self.groups, f"must divide model.width = {self.width}; use a divisor")
        large = min(height, width) >= _LARGE
        stem = nn.Conv2d(channels, self.width, 7, 2, 3, bias=False)
        if not large:
            stem = nn.Conv2d(channels, self.width, 3, padding=1, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=stem, norm1=nn.GroupNorm(self.groups, self.width), relu1=nn.ReLU()
        )
        if large:
            layers["pool1"] = nn.MaxPool2d(3, 2, 1)
        inward = self.width
        for number in range(8):
            outward = self.width << number // 2
            layers[f"block{number + 1}"] = ResidualBlock(inward, outward, 1 + (outward > inward), self.groups)
            inward = outward
        layers.update(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(inward, num_outputs))
        return nn.Sequential(layers)
