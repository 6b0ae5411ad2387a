"""What every model is to the rest of the program: settings, a cut, and a module to build.

Layer 1. A model is one file with one `Model` subclass; outside packages register theirs under the entry point group
`hpcfsl.model`. The module it builds may be any `torch.nn.Module` without batch statistics, whose only randomness is
that of `torch.nn.Dropout`; a `torch.nn.Sequential` with named children is the easiest to cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.settings import Registry, Settings

if TYPE_CHECKING:
    from torch import nn


KINDS = ("image", "speech", "text", "forecast", "other")
"""What models are for, in the order in which they are listed."""

Kind = Literal["image", "speech", "text", "forecast", "other"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What a model is built for.

    Attributes:
        shape: Shape of one sample.
        num_outputs: Classes, or numbers, that are told of it or of each of its positions.
        vocabulary: Number of symbols where samples are symbols; 0 where they are numbers.
        target_shape: Shape of one sample's targets: () of a class, (positions,) of one at each, (outputs,) of numbers.
        predicts: What the outputs are.
        title: In words, for lists.
    """

    shape: tuple[int, ...]
    num_outputs: int
    vocabulary: int = 0
    target_shape: tuple[int, ...] = ()
    predicts: Literal["classes", "numbers"] = "classes"
    title: str = ""

    def changed(self, *, shape: tuple[int, ...] | None, num_outputs: int | None, vocabulary: int | None) -> Samples:
        """Return samples of the same kind of another shape, with other outputs or symbols; None leaves as it is."""
        shape, outputs = shape or self.shape, num_outputs or self.num_outputs
        target_shape = (outputs,) if self.predicts == "numbers" else shape[: len(self.target_shape)]
        vocabulary = (vocabulary or self.vocabulary) if self.vocabulary else 0
        same = (shape, outputs, vocabulary) == (self.shape, self.num_outputs, self.vocabulary)
        return Samples(
            shape=shape,
            num_outputs=outputs,
            vocabulary=vocabulary,
            target_shape=target_shape,
            predicts=self.predicts,
            title=self.title if same else "",
        )


class Model(Settings):
    """Settings of a model. Subclasses add `name: Literal[...]` and give `cut` a default.

    Attributes:
        kind: What it is for.
        example: Samples of the usual shape, for `hpcfsl models`; None for none.
        cuts: What each cut point means, in a sentence; `<k>` in a name stands for any number.
    """

    kind: ClassVar[Kind] = "other"
    example: ClassVar[Samples | None] = None
    cuts: ClassVar[Mapping[str, str]] = {}

    cut: str = Field(min_length=1)
    """The layer after which the model is cut, or "none" to keep all of it on the client."""

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        """Return a new module that takes float32 [batch, *sample_shape] to outputs [batch, num_outputs].

        The outputs are logits of `num_outputs` classes, or so many numbers where the data's targets are numbers. For
        sequences of symbols the inputs are int64 [batch, positions], and where every position has a class the logits
        are [batch, positions, num_outputs].

        Raises:
            ConfigError: The model cannot take samples of this shape.
        """
        raise AssertionError("every model defines build")

    def make(self, samples: Samples) -> nn.Module:
        """Return a new module for data.

        Raises:
            ConfigError: The model cannot take such samples, or not tell what is wanted of them.
        """
        if samples.vocabulary and self.kind != "other":
            fix = "takes numbers, and the samples are symbols; choose 'sentence-classifier', 'gru-lm' or other data"
            raise ConfigError("model.name", self.model_dump()["name"], fix)
        return self.build(samples.shape, samples.num_outputs)

    @classmethod
    def explain_cut(cls, cut: str) -> str:
        """Return the sentence of `cuts` on a cut point; "" where there is none."""
        return cls.cuts.get(cut) or cls.cuts.get(re.sub(r"\d+$", "<k>", cut), "")


models: Registry[Model] = Registry("model", key="name", default="digits-cnn")
