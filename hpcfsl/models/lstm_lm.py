"""A language model of characters or tokens from long short-term memory: the one of the federated averaging paper.

Layer 1. McMahan et al., "Communication-efficient learning of deep networks from decentralized data" (AISTATS 2017), on
Shakespeare: an embedding of 8, two LSTM layers of 256 (Hochreiter and Schmidhuber, 1997), a linear layer. Choose it to
compare with published figures; `gru-lm` is a good deal faster.
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
class LstmLm(LanguageModel):
    """Embedding, LSTM layers, linear classes at each position; the classes are mostly the symbols."""

    example: ClassVar = NEXT_CHARACTER
    cuts: ClassVar = {
        "embedding": "After the embedding: few numbers a position, and a table look-up tells the symbol again.",
        "lstm<k>": "After LSTM layer k: a hidden state a position.",
    }

    name: Literal["lstm-lm"] = "lstm-lm"
    """The model."""

    cut: str = Field("lstm1", min_length=1)
    """The layer after which the model is cut: embedding, lstm1, lstm2, ... up to the last, or "none"."""

    embedding: int = Field(8, ge=1, le=65536)
    """Width of the embedding of a symbol."""

    hidden: int = Field(256, ge=1, le=65536)
    """Width of the hidden states."""

    layers: int = Field(2, ge=1, le=16)
    """LSTM layers, one above the other."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int, vocabulary: int = 0) -> nn.Module:
        """Return the module; 824,160 parameters for 96 symbols and classes."""
        from torch import nn

        from hpcfsl.models.recurrent import Lstm

        self.positions_of(sample_shape)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            embedding=nn.Embedding(vocabulary or num_outputs, self.embedding)
        )
        inward = self.embedding
        for number in range(1, self.layers + 1):
            layers[f"lstm{number}"] = Lstm(inward, self.hidden)
            inward = self.hidden
        layers["linear"] = nn.Linear(self.hidden, num_outputs)
        return nn.Sequential(layers)
