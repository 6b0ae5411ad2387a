"""A small causal transformer for text: it predicts the next symbol at each position from all before it.

Layer 1. Vaswani et al., "Attention is all you need" (NeurIPS 2017), the decoder alone, with learned positions and norms
before each part (Radford et al., "Language models are unsupervised multitask learners", 2019). Choose it over `gru-lm`
where texts are long or there are several local epochs; it wants `optimizer = "adam"`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import models
from hpcfsl.models.text import NEXT_CHARACTER, LanguageModel

if TYPE_CHECKING:
    from torch import nn


@models.register
class TransformerLm(LanguageModel):
    """Embedding, learned positions, blocks of causal attention, a norm, linear classes at each position."""

    example: ClassVar = NEXT_CHARACTER
    cuts: ClassVar = {
        "embedding": "After the embedding: a table look-up tells the symbol again.",
        "positions": "After the learned positions are added; no work more than after the embedding.",
        "block<k>": "After block k: each position has seen all before it.",
        "norm": "After the last norm; the server holds the classifier alone.",
    }

    name: Literal["transformer-lm"] = "transformer-lm"
    """The model."""

    cut: str = Field("block1", min_length=1)
    """The layer after which the model is cut: embedding, positions, block1, block2, ... up to the last, norm, or
    "none"."""

    width: int = Field(64, ge=1, le=65536)
    """Features at each position."""

    heads: int = Field(4, ge=1, le=1024)
    """Heads of attention; must divide `width`."""

    layers: int = Field(2, ge=1, le=64)
    """Blocks."""

    hidden: int = Field(256, ge=1, le=262_144)
    """Features between the two linear layers of a block; four times the width in the paper."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the numbers that is dropped in training before each addition in a block; 0 for none."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int, vocabulary: int = 0) -> nn.Module:
        """Return the module; 117,600 parameters for 80 positions, 96 symbols and classes."""
        from torch import nn

        from hpcfsl.models.transformer import Positions, TransformerBlock

        positions = self.positions_of(sample_shape)
        if self.width % self.heads:
            raise ConfigError("model.heads", self.heads, f"must divide model.width = {self.width}; use a divisor")
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            embedding=nn.Embedding(vocabulary or num_outputs, self.width), positions=Positions(positions, self.width)
        )
        for number in range(1, self.layers + 1):
            layers[f"block{number}"] = TransformerBlock(self.width, self.heads, self.hidden, self.dropout)
        layers.update(norm=nn.LayerNorm(self.width), linear=nn.Linear(self.width, num_outputs))
        return nn.Sequential(layers)
