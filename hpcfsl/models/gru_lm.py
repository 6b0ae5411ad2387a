"""A language model of characters: embedding, one gated recurrent unit, one linear layer at each position.

Layer 1. It predicts the next symbol at each position, as the stacked LSTM of McMahan et al., "Communication-efficient
learning of deep networks from decentralized data" (AISTATS 2017), does for Shakespeare, from the same embedding of 8;
the recurrent layer is that of Cho et al. (EMNLP 2014). Choose it for text: `python-docstrings`, `synthetic-text`, or
your own symbols.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Model, models

if TYPE_CHECKING:
    from torch import nn


@models.register
class GruLm(Model):
    """Embedding, recurrent layer, linear classes at each position; the classes are the symbols."""

    name: Literal["gru-lm"] = "gru-lm"
    """The model."""

    cut: str = Field("gru", min_length=1)
    """The layer after which the model is cut: embedding, gru, or "none"."""

    embedding: int = Field(8, ge=1, le=65536)
    """Width of the embedding of a symbol."""

    hidden: int = Field(128, ge=1, le=65536)
    """Width of the hidden state."""

    def build(self, sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Return the module; 65,322 parameters for 90 classes."""
        from torch import nn

        from hpcfsl.models.recurrent import Gru

        if len(sample_shape) != 1:
            fix = f"needs sequences of symbols [positions], the samples are {list(sample_shape)}; choose 'mlp' or text"
            raise ConfigError("model.name", self.name, fix)
        return nn.Sequential(
            OrderedDict(
                embedding=nn.Embedding(num_classes, self.embedding),
                gru=Gru(self.embedding, self.hidden),
                linear=nn.Linear(self.hidden, num_classes),
            )
        )
