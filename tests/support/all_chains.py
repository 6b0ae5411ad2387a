"""A small chain for every layer that the compiled engine knows, with every setting and around the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from support.chains import SYMBOLS, Chain, Layers, flat, text
from torch import nn

from hpcfsl.models.pooled import MeanEmbedding
from hpcfsl.models.recurrent import Gru
from hpcfsl.models.sequences import LastPosition, MeanPosition, Steps


def make_chains() -> dict[str, Chain]:
    """Return a chain for each layer and setting, by name."""
    return _dense() | _convolutions() | _lines() | _poolings() | _activations() | _norms() | _texts() | _dropouts()


def _dense() -> dict[str, Chain]:
    def bare(*sizes: int) -> Layers:
        return lambda: [nn.Linear(*pair) for pair in pairwise(sizes)]

    widths = {
        f"linear-{wide}": flat((wide,), lambda wide=wide: nn.Linear(wide, wide), nn.ReLU)
        for wide in (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 33, 63)
    }
    return widths | {
        "only-one-linear": Chain(layers=bare(6, 3), shape=(6,), head="none"),
        "one-class": Chain(layers=bare(6, 1), shape=(6,), head="none", classes=1),
        "many-classes": Chain(layers=bare(3, 41), shape=(3,), head="none", classes=41),
        "no-bias": Chain(layers=lambda: [nn.Linear(5, 9, bias=False), nn.Tanh()], shape=(5,)),
        "parameters-late": flat((2, 4, 4), nn.ReLU, lambda: nn.MaxPool2d(2), nn.Identity, nn.Tanh),
        "flattened-image": flat((3, 5, 3), nn.Flatten, lambda: nn.Linear(45, 6), nn.ReLU),
        "positions": Chain(layers=bare(5, 18, 4), shape=(3, 5), head="each"),
        "one-position": Chain(layers=bare(5, 18, 4), shape=(1, 5), head="each"),
        "flattened-positions": flat((3, 5), lambda: nn.Linear(5, 6), nn.ReLU, nn.Flatten, lambda: nn.Linear(18, 4)),
    }


def _convolutions() -> dict[str, Chain]:
    def two(channels: int, middle: int, size: tuple[int, int], *kernel: Any, **settings: Any) -> Chain:
        return flat(
            (channels, *size),
            lambda: nn.Conv2d(channels, middle, 3, padding=1),
            nn.Tanh,
            lambda: nn.Conv2d(middle, channels, *kernel, **settings),
        )

    counts = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20)
    channels = {f"channels-{first}": two(first, counts[-1 - i], (4, 5), 3) for i, first in enumerate(counts)}
    return channels | {
        "kernel-1": two(3, 5, (4, 3), 1),
        "kernel-2x3": two(3, 5, (5, 6), (2, 3)),
        "kernel-of-all": two(2, 9, (3, 4), (3, 4)),
        "one-pixel": two(4, 3, (1, 1), 1),
        "stride": two(3, 9, (7, 6), 3, stride=2),
        "stride-beyond-kernel": two(3, 4, (8, 7), 2, stride=3),
        "stride-1x2": two(3, 5, (5, 8), (2, 3), stride=(1, 2)),
        "padding": two(3, 17, (4, 5), 3, padding=2),
        "padding-1x0": two(5, 3, (3, 4), 3, padding=(1, 0)),
        "padding-and-stride": two(9, 3, (6, 5), 3, stride=2, padding=1),
        "dilation": two(3, 5, (7, 8), 3, dilation=2),
        "dilation-1x2": two(8, 5, (5, 9), 3, dilation=(1, 2)),
        "dilation-2x1": two(3, 8, (7, 5), (3, 2), dilation=(2, 1)),
        "everything": two(5, 6, (9, 8), (3, 2), stride=(2, 3), padding=(3, 1), dilation=(2, 3), bias=False),
        "first-padded": flat((3, 4, 5), lambda: nn.Conv2d(3, 9, (3, 2), padding=(2, 1), stride=2, bias=False)),
        "first-dilated": flat((5, 6, 7), lambda: nn.Conv2d(5, 3, 2, dilation=3, padding=1)),
        "wide-image": flat((1, 2, 40), lambda: nn.Conv2d(1, 6, 2)),
    }


def _lines() -> dict[str, Chain]:
    def two(channels: int, middle: int, length: int, *kernel: Any, **settings: Any) -> Chain:
        return flat(
            (channels, length),
            lambda: nn.Conv1d(channels, middle, 2),
            nn.ReLU,
            lambda: nn.Conv1d(middle, channels, *kernel, **settings),
        )

    return {
        "line": two(2, 9, 7, 3),
        "line-strided": two(3, 4, 9, 3, stride=2, padding=2),
        "line-dilated": two(17, 5, 11, 3, dilation=3, bias=False),
        "line-of-one": two(3, 5, 2, 1),
        "line-max": flat((5, 9), lambda: nn.Conv1d(5, 6, 3), lambda: nn.MaxPool1d(3, stride=2, padding=1, dilation=2)),
        "line-average": flat((3, 9), lambda: nn.Conv1d(3, 4, 3), lambda: nn.AvgPool1d(3, stride=1, padding=1)),
        "line-adaptive": flat((3, 9), lambda: nn.Conv1d(3, 17, 3), lambda: nn.AdaptiveAvgPool1d(1)),
        "line-adaptive-max": flat((3, 9), lambda: nn.Conv1d(3, 4, 3), lambda: nn.AdaptiveMaxPool1d(1)),
    }


def _poolings() -> dict[str, Chain]:
    def after(channels: int, size: tuple[int, int], pooling: Callable[[], nn.Module]) -> Chain:
        return flat((channels, *size), lambda: nn.Conv2d(channels, channels, 1), nn.ReLU, pooling)

    return {
        "max": after(3, (4, 6), lambda: nn.MaxPool2d(2)),
        "max-odd": after(5, (5, 7), lambda: nn.MaxPool2d(2)),
        "max-overlap": after(9, (6, 5), lambda: nn.MaxPool2d(3, stride=1)),
        "max-padded": after(17, (5, 5), lambda: nn.MaxPool2d((3, 2), stride=2, padding=(1, 1))),
        "max-dilated": after(4, (7, 6), lambda: nn.MaxPool2d(2, stride=1, dilation=(3, 2))),
        "average": after(8, (4, 4), lambda: nn.AvgPool2d(2)),
        "average-overlap": after(3, (5, 6), lambda: nn.AvgPool2d((3, 2), stride=(2, 1))),
        "average-padded": after(20, (4, 5), lambda: nn.AvgPool2d(3, stride=2, padding=1)),
        "adaptive-average": after(7, (3, 5), lambda: nn.AdaptiveAvgPool2d(1)),
        "adaptive-max": after(16, (3, 5), lambda: nn.AdaptiveMaxPool2d((1, 1))),
        "pooled-twice": after(6, (9, 9), lambda: nn.Sequential(nn.MaxPool2d(3, 2), nn.AvgPool2d(2, 1))),
    }


def _activations() -> dict[str, Chain]:
    pairs = {
        f"{first.__name__}-{second.__name__}": flat((5,), lambda: nn.Linear(5, 7), first, second, nn.ReLU)
        for first in (nn.ReLU, nn.Tanh, nn.Sigmoid)
        for second in (nn.ReLU, nn.Tanh, nn.Sigmoid)
    }
    images = {
        f"{kind.__name__}-image": flat((3, 3, 3), lambda: nn.Conv2d(3, 5, 2), kind, lambda: nn.Conv2d(5, 4, 2), kind)
        for kind in (nn.ReLU, nn.Tanh, nn.Sigmoid)
    }
    return pairs | images


def _norms() -> dict[str, Chain]:
    def normed(channels: int, groups: int) -> Chain:
        return flat((2, 4, 3), lambda: nn.Conv2d(2, channels, 2), lambda: nn.GroupNorm(groups, channels), nn.Sigmoid)

    return {
        "group-norm": normed(6, 3),
        "group-norm-of-all": normed(9, 1),
        "group-norm-of-each": normed(4, 4),
        "group-norm-wide": normed(20, 5),
        "group-norm-first": flat((4, 3, 3), lambda: nn.GroupNorm(2, 4, eps=0.1), lambda: nn.Conv2d(4, 3, 2)),
        "group-norm-line": flat((2, 6), lambda: nn.Conv1d(2, 6, 2), lambda: nn.GroupNorm(2, 6)),
        "layer-norm": flat((5,), lambda: nn.Linear(5, 19), lambda: nn.LayerNorm(19), nn.ReLU),
        "layer-norm-first": flat((5,), lambda: nn.LayerNorm(5, eps=0.5), lambda: nn.Linear(5, 4)),
        "layer-norm-positions": text(4, 7, lambda: nn.LayerNorm(7), lambda: nn.Linear(7, 5), lambda: nn.LayerNorm(5)),
    }


def _texts() -> dict[str, Chain]:
    hidden = {f"gru-{wide}": text(4, 5, lambda wide=wide: Gru(5, wide)) for wide in (1, 3, 4, 8, 9, 16, 17, 20)}
    embedded = {f"embedding-{wide}": text(3, wide, head="flat") for wide in (1, 4, 16, 17)}
    return (
        hidden
        | embedded
        | {
            "gru-one-position": text(1, 5, lambda: Gru(5, 6)),
            "gru-twice": text(4, 3, lambda: Gru(3, 6), lambda: Gru(6, 5)),
            "gru-of-numbers": Chain(layers=lambda: [Gru(3, 6)], shape=(4, 3), head="each"),
            "gru-flattened": text(4, 3, lambda: Gru(3, 6), head="flat"),
            "gru-relu": text(4, 3, lambda: Gru(3, 6), nn.ReLU),
            "gru-tanh-sigmoid": text(3, 4, lambda: Gru(4, 5), nn.Tanh, nn.Sigmoid),
            "embedding-each": text(3, 4),
            "mean-position": text(4, 17, MeanPosition, nn.Tanh, head="flat"),
            "mean-of-one-position": text(1, 5, MeanPosition, head="flat"),
            "last-position": text(4, 5, lambda: Gru(5, 6), LastPosition, nn.ReLU, head="flat"),
            "last-of-one-position": text(1, 5, LastPosition, head="flat"),
            "last-of-numbers": flat((4, 3), lambda: Gru(3, 6), LastPosition),
            "frames": flat((1, 5, 9), lambda: nn.Flatten(1, 2), lambda: nn.Conv1d(5, 3, 3), nn.ReLU),
            "steps": flat((1, 17, 5), Steps, lambda: Gru(17, 6), MeanPosition),
            "steps-of-lines": flat((3, 4), Steps, lambda: nn.Linear(3, 5), nn.ReLU),
            "mean-embedding": mean_of(17, 2),
            "mean-embedding-narrow": mean_of(3, 0),
            "mean-embedding-without-padding": mean_of(16, -1),
            "embedding-sigmoid": text(3, 5, nn.Sigmoid, lambda: Gru(5, 4)),
        }
    )


def mean_of(width: int, padding: int) -> Chain:
    """Return a chain over the mean embedding of symbols."""
    return Chain(
        layers=lambda: [MeanEmbedding(SYMBOLS, width, padding), nn.Linear(width, 5), nn.ReLU()],
        shape=(4,),
        symbols=True,
    )


def _dropouts() -> dict[str, Chain]:
    def convolved(*after: Callable[[], nn.Module]) -> Chain:
        return flat((2, 4, 5), lambda: nn.Conv2d(2, 5, 2), *after)

    half: Callable[[], nn.Module] = lambda: nn.Dropout(0.5)  # noqa: E731
    return {
        "drop": flat((6,), lambda: nn.Linear(6, 20), nn.ReLU, half),
        "drop-full-vectors": flat((6,), lambda: nn.Linear(6, 16), half, nn.ReLU),
        "drop-first": flat((19,), lambda: nn.Dropout(0.9), lambda: nn.Linear(19, 5)),
        "drop-first-image": flat((3, 3, 2), half, lambda: nn.Conv2d(3, 4, 2), half),
        "drop-twice": flat((6,), lambda: nn.Linear(6, 9), half, lambda: nn.Dropout(0.1)),
        "drop-nothing": flat((6,), lambda: nn.Linear(6, 9), lambda: nn.Dropout(0.0)),
        "drop-image": convolved(half, lambda: nn.Conv2d(5, 4, 2)),
        "drop-before-flatten": convolved(nn.ReLU, half),
        "drop-around-flatten": convolved(half, nn.Flatten, half, lambda: nn.Linear(60, 4)),
        "drop-line": flat((2, 9), lambda: nn.Conv1d(2, 5, 2), half, lambda: nn.MaxPool1d(2)),
        "drop-sequence": text(4, 5, half, lambda: Gru(5, 6), half),
        "drop-sequence-flattened": text(4, 5, half, head="flat"),
    }
