"""What all models of text have in common: they read symbols, whose number may differ from that of the outputs.

Layer 1. Symbols are characters, words or parts of words; which is the data's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Model, Samples

if TYPE_CHECKING:
    from torch import nn

NEXT_CHARACTER = Samples(
    shape=(80,), num_outputs=96, vocabulary=96, target_shape=(80,), title="80 characters, the next at each"
)

_SENTENCES, _NEXT = "'sentence-classifier'", "'gru-lm', 'lstm-lm' or 'transformer-lm'"


class TextModel(Model):
    """A model whose samples are symbols [positions]."""

    kind: ClassVar = "text"

    def make(self, samples: Samples) -> nn.Module:
        """Return the module for data, see `Model.make`."""
        if not samples.vocabulary:
            raise self.refusal("reads symbols, and the samples are numbers; choose text, or another model")
        return self.build(samples.shape, samples.num_outputs, samples.vocabulary)

    def build(self, sample_shape: tuple[int, ...], num_outputs: int, vocabulary: int = 0) -> nn.Module:
        """Return a new module that takes int64 [batch, positions] to outputs; see `Model.build`.

        Args:
            sample_shape: (positions,).
            num_outputs: Classes, or numbers, of a text or of each of its positions.
            vocabulary: Number of symbols; 0 for as many as outputs.
        """
        raise AssertionError("every model defines build")

    def positions_of(self, sample_shape: tuple[int, ...]) -> int:
        """Return the positions of a sample; ConfigError where it is no sequence of symbols."""
        if len(sample_shape) != 1:
            raise self.refusal(
                f"needs sequences of symbols [positions], the samples are {list(sample_shape)}; choose 'mlp' or text"
            )
        return sample_shape[0]

    def refusal(self, fix: str) -> ConfigError:
        """Return the error that the model cannot be used for the data."""
        return ConfigError("model.name", self.model_dump()["name"], fix)


class LanguageModel(TextModel):
    """A model of text that tells a class, mostly the next symbol, at every position."""

    def make(self, samples: Samples) -> nn.Module:
        """Return the module for data, see `Model.make`."""
        if samples.vocabulary and samples.target_shape != samples.shape:
            raise self.refusal(f"tells a class at each position, and the data have one a text; choose {_SENTENCES}")
        return super().make(samples)


class SentenceModel(TextModel):
    """A model of text that tells one class, or some numbers, of a whole text."""

    def make(self, samples: Samples) -> nn.Module:
        """Return the module for data, see `Model.make`."""
        if samples.vocabulary and samples.predicts == "classes" and samples.target_shape:
            raise self.refusal(f"tells one class a text, and the data have one at each position; choose {_NEXT}")
        return super().make(samples)
