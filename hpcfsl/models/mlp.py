"""A multilayer perceptron: linear layers of any number and width with ReLU between them, for samples of any shape.

Layer 1. Choose it for tables of features, for the synthetic blobs, and where a run should cost next to nothing. With
`hidden = []` and `cut = "none"` it is multinomial logistic regression, whose loss is convex.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.model import Model, Samples, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class Mlp(Model):
    """Flatten, then linear and ReLU for each hidden size, then linear classes."""

    kind: ClassVar = "forecast"
    example: ClassVar = Samples(shape=(20,), num_outputs=10, title="a row of 20 features")
    cuts: ClassVar = {
        "linear<k>": "After the product of hidden layer k.",
        "relu<k>": "After the activation of hidden layer k; the last one leaves the server the last layer alone.",
    }

    name: Literal["mlp"] = "mlp"
    """The model."""

    cut: str = Field("relu1", min_length=1)
    """The layer after which the model is cut: linear1, relu1, linear2, ... up to the last relu, or "none"."""

    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field((64, 32), max_length=64)
    """Widths of the hidden layers, first to last."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return the module; children flatten, linear1, relu1, ..., linear<k>."""
        from torch import nn

        widths = (math.prod(sample_shape), *self.hidden, num_outputs)
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for number, (inward, outward) in enumerate(pairwise(widths), start=1):
            layers[f"linear{number}"] = nn.Linear(inward, outward)
            if number <= len(self.hidden):
                layers[f"relu{number}"] = nn.ReLU()
        return nn.Sequential(layers)
