"""Every shipped model at a tiny size, with data for it; together they have every cut that a model documents."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from hpcfsl.models import Model, Samples, models
from hpcfsl.models.split import SplitModel, split

torch.set_num_threads(1)  # as in a run


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model's settings, and what it is built for.

    Attributes:
        tree: The `[model]` table.
        samples: What it is built for.
        size: Its parameters, counted by hand.
    """

    tree: dict[str, Any]
    samples: Samples
    size: int = field(compare=False)

    @property
    def settings(self) -> Model:
        """The model's settings."""
        return models.parse(self.tree)

    def module(self) -> nn.Module:
        """Return the module."""
        return self.settings.make(self.samples)

    def split(self, cut: str, module: nn.Module | None = None) -> SplitModel:
        """Return the model, cut."""
        return split_for(module or self.module(), cut, self.samples)

    def batch(self, size: int = 3) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a few samples."""
        samples, generator = self.samples, torch.Generator().manual_seed(4)
        if samples.vocabulary:
            inputs = torch.randint(samples.vocabulary, (size, *samples.shape), generator=generator)
        else:
            inputs = torch.randn(size, *samples.shape, generator=generator)
        if samples.predicts == "numbers":
            return inputs, torch.randn(size, *samples.target_shape, generator=generator)
        return inputs, torch.randint(samples.num_outputs, (size, *samples.target_shape), generator=generator)


def split_for(module: nn.Module, cut: str, samples: Samples, *, tail: str | None = None) -> SplitModel:
    """Return a module, cut, as a run would."""
    return split(
        module,
        cut,
        samples.shape,
        target_shape=samples.target_shape,
        vocabulary=samples.vocabulary,
        predicts=samples.predicts,
        tail=tail,
    )


def classes(*shape: int, count: int = 10) -> Samples:
    return Samples(shape=shape, num_outputs=count)


def numbers(*shape: int, count: int = 4) -> Samples:
    return Samples(shape=shape, num_outputs=count, target_shape=(count,), predicts="numbers")


def text(positions: int, symbols: int, count: int, *, each: bool = True) -> Samples:
    return Samples(shape=(positions,), num_outputs=count, vocabulary=symbols, target_shape=(positions,) if each else ())


def _gru(inward: int, hidden: int) -> int:
    return 3 * hidden * (inward + hidden + 2)


def _lstm(inward: int, hidden: int) -> int:
    return 4 * hidden * (inward + hidden + 2)


def _block(width: int, hidden: int) -> int:
    attention = 3 * width * (width + 1) + width * (width + 1)
    return 2 * 2 * width + attention + hidden * (width + 1) + width * (hidden + 1)


def _resnet(channels: int, kernel: int, width: int, outputs: int) -> int:
    stem, size, inward = channels * width * kernel**2 + 2 * width, 0, width
    for number in range(8):
        outward = width << number // 2
        size += 9 * outward * (inward + outward) + 4 * outward
        size += outward * (inward + 2) if inward != outward else 0
        inward = outward
    return stem + size + outputs * (inward + 1)


CASES = {
    "digits-cnn": Case(tree={"name": "digits-cnn"}, samples=classes(1, 8, 8), size=38_282),
    "mlp": Case(tree={"name": "mlp"}, samples=classes(20), size=3_754),
    "mlp-image": Case(tree={"name": "mlp", "hidden": [5]}, samples=classes(3, 4, 4), size=305),
    "mlp-numbers": Case(tree={"name": "mlp", "hidden": [5, 4]}, samples=numbers(7), size=8 * 5 + 6 * 4 + 5 * 4),
    "lenet5-28": Case(tree={"name": "lenet5"}, samples=classes(1, 28, 28), size=61_706),
    "lenet5-32": Case(tree={"name": "lenet5"}, samples=classes(3, 32, 32), size=62_006),
    "cifar-cnn": Case(tree={"name": "cifar-cnn"}, samples=classes(3, 8, 8), size=53_578),
    "cifar-cnn-dropout": Case(
        tree={"name": "cifar-cnn", "dropout1": 0.25, "dropout2": 0.5}, samples=classes(3, 10, 10), size=94_538
    ),
    "resnet18": Case(
        tree={"name": "resnet18", "width": 4, "groups": 2}, samples=classes(3, 8, 8), size=_resnet(3, 3, 4, 10)
    ),
    "resnet18-large": Case(
        tree={"name": "resnet18", "width": 2, "groups": 1}, samples=classes(1, 64, 65), size=_resnet(1, 7, 2, 10)
    ),
    "speech-cnn1d-wave": Case(
        tree={"name": "speech-cnn1d", "channels": 4, "groups": 2},
        samples=classes(1, 1200),
        size=4 * 81 + 4 * 13 + 8 * 13 + 16 * 25 + 2 * (4 + 4 + 8 + 16) + 10 * 17,
    ),
    "speech-cnn1d-frames": Case(
        tree={"name": "speech-cnn1d", "channels": 4, "groups": 4},
        samples=classes(1, 5, 17),
        size=4 * 16 + 4 * 13 + 8 * 13 + 16 * 25 + 2 * (4 + 4 + 8 + 16) + 10 * 17,
    ),
    "speech-cnn2d": Case(
        tree={"name": "speech-cnn2d", "channels": 2, "hidden": 6, "dropout": 0.5},
        samples=classes(1, 9, 17),
        size=2 * 10 + 4 * 19 + 8 * 37 + 6 * 17 + 10 * 7,
    ),
    "speech-gru": Case(tree={"name": "speech-gru", "hidden": 6}, samples=classes(1, 5, 7), size=_gru(5, 6) + 10 * 7),
    "speech-gru-last": Case(
        tree={"name": "speech-gru", "hidden": 6, "layers": 2, "pool": "last"},
        samples=classes(1, 17, 4),
        size=_gru(17, 6) + _gru(6, 6) + 10 * 7,
    ),
    "gru-lm": Case(tree={"name": "gru-lm", "hidden": 12}, samples=text(7, 10, 10), size=80 + _gru(8, 12) + 10 * 13),
    "gru-lm-tags": Case(
        tree={"name": "gru-lm", "hidden": 5, "embedding": 3}, samples=text(4, 9, 3), size=27 + _gru(3, 5) + 3 * 6
    ),
    "lstm-lm": Case(
        tree={"name": "lstm-lm", "hidden": 5, "embedding": 3},
        samples=text(4, 9, 9),
        size=27 + _lstm(3, 5) + _lstm(5, 5) + 9 * 6,
    ),
    "transformer-lm": Case(
        tree={"name": "transformer-lm", "width": 6, "heads": 2, "hidden": 8, "dropout": 0.2},
        samples=text(5, 9, 9),
        size=9 * 6 + 5 * 6 + 2 * _block(6, 8) + 12 + 9 * 7,
    ),
    "sentence-classifier": Case(
        tree={"name": "sentence-classifier", "embedding": 4, "hidden": [6, 5], "dropout": 0.5},
        samples=text(6, 11, 3, each=False),
        size=44 + 6 * 5 + 5 * 7 + 3 * 6,
    ),
    "sentence-numbers": Case(
        tree={"name": "sentence-classifier", "embedding": 4, "hidden": [], "padding": -1},
        samples=Samples(shape=(6,), num_outputs=1, vocabulary=11, target_shape=(1,), predicts="numbers"),
        size=44 + 5,
    ),
    "gru-forecast": Case(
        tree={"name": "gru-forecast", "hidden": 6, "layers": 2},
        samples=classes(5, 3, count=4),
        size=_gru(3, 6) + _gru(6, 6) + 4 * 7,
    ),
    "gru-forecast-numbers": Case(
        tree={"name": "gru-forecast", "hidden": 6}, samples=numbers(5, 3), size=_gru(3, 6) + 4 * 7
    ),
    "tcn": Case(
        tree={"name": "tcn", "channels": 5, "blocks": 2, "dropout": 0.3},
        samples=classes(9, 3, count=4),
        size=5 * 10 + 5 * 16 + 5 * 4 + 2 * 5 * 16 + 4 * 6,
    ),
    "tcn-numbers": Case(
        tree={"name": "tcn", "channels": 3, "blocks": 1, "kernel": 2}, samples=numbers(4, 3), size=2 * 3 * 7 + 4 * 4
    ),
}


@cache
def built(name: str) -> nn.Module:
    """Return the module of a case; do not change it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[name].module()
