"""A language model of characters or tokens: embedding, gated recurrent units, one linear layer at each position.

Layer 1. It predicts the next symbol at each position, as the stacked LSTM of McMahan et al., "Communication-efficient
learning of deep networks from decentralized data" (AISTATS 2017), does for Shakespeare, from the same embedding of 8;
the recurrent layer is that of Cho et al. (EMNLP 2014). Choose it for text: `python-docstrings`, `synthetic-text`, or
your own symbols; for tokens by the thousand set `embedding` to 64 or more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.models.model import models
from hpcfsl.models.text import NEXT_CHARACTER, LanguageModel

if TYPE_CHECKING:
    from torch import nn


@models.register
class GruLm(LanguageModel):
    """Embedding, recurrent layer, linear classes at each position; the classes are mostly the symbols."""

    example: ClassVar = NEXT_CHARACTER
    cuts: ClassVar = {
        "embedding": "After the embedding: few numbers a position, and a table look-up tells the symbol again.",
        "gru": "After the recurrent layer: a hidden state a position; the server holds the classifier alone.",
    }

    name: Literal["gru-lm"] = "gru-lm"
    """The model."""

    cut: str = Field("gru", min_length=1)
    """The layer after which the model is cut: embedding, gru, or "none"."""

    embedding: int = Field(8, ge=1, le=65536)
    """Width of the embedding of a symbol."""

    hidden: int = Field(128, ge=1, le=65536)
    """Width of the hidden state."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int, vocabulary: int = 0) -> nn.Module:
        """Return the module; 66,144 parameters for 96 symbols and classes."""
        from torch import nn

        from hpcfsl.models.recurrent import Gru

        self.positions_of(sample_shape)
        return nn.Sequential(
            OrderedDict(
                embedding=nn.Embedding(vocabulary or num_outputs, self.embedding),
                gru=Gru(self.embedding, self.hidden),
                linear=nn.Linear(self.hidden, num_outputs),
            )
        )
