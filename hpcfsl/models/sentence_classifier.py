"""A classifier of short texts: the mean of their embeddings without the padding, then a multilayer perceptron.

Layer 1. Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification" (ACL 2015); with
`hidden = []` it is the bag of words of Joulin et al. (EACL 2017). The order of symbols is lost, so choose it for words
or parts of words, not for characters; it tells classes, or numbers such as a sentiment.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.model import Samples, models
from hpcfsl.models.text import SentenceModel

if TYPE_CHECKING:
    from torch import nn


@models.register
class SentenceClassifier(SentenceModel):
    """Mean of embeddings, then linear and ReLU for each hidden size, then linear outputs."""

    example: ClassVar = Samples(shape=(64,), num_outputs=2, vocabulary=4096, title="64 words of 4,096, two classes")
    cuts: ClassVar = {
        "mean": "After the mean of the embeddings: one vector a text, in which the order of words is gone.",
        "linear<k>": "After the product of hidden layer k.",
        "relu<k>": "After the activation of hidden layer k.",
        "dropout": "After the last hidden layer, with numbers dropped; only where dropout is above 0.",
    }

    name: Literal["sentence-classifier"] = "sentence-classifier"
    """The model."""

    cut: str = Field("mean", min_length=1)
    """The layer after which the model is cut: mean, linear1, relu1, linear2, ... up to the last relu, dropout, or
    "none"."""

    embedding: int = Field(32, ge=1, le=65536)
    """Width of the embedding of a symbol."""

    hidden: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field((64,), max_length=16)
    """Widths of the hidden layers, first to last."""

    padding: int = Field(0, ge=-1)
    """The symbol that fills short texts up, which the mean leaves out; -1 where there is none."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the last hidden layer's numbers that is dropped in training; 0 leaves the layer out."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int, vocabulary: int = 0) -> nn.Module:
        """Return the module; 133,314 parameters for 4,096 symbols and two classes."""
        from torch import nn

        from hpcfsl.models.pooled import MeanEmbedding

        self.positions_of(sample_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            mean=MeanEmbedding(vocabulary or num_outputs, self.embedding, self.padding)
        )
        widths = (self.embedding, *self.hidden, num_outputs)
        for number, (inward, outward) in enumerate(pairwise(widths), start=1):
            if number == len(widths) - 1 and self.dropout:
                layers["dropout"] = nn.Dropout(self.dropout)
            layers[f"linear{number}"] = nn.Linear(inward, outward)
            if number <= len(self.hidden):
                layers[f"relu{number}"] = nn.ReLU()
        return nn.Sequential(layers)
