"""Chains of layers that hypothesis puts together: any that the compiled engine takes, of any sizes that fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from support.chains import Chain
from torch import nn

from hpcfsl.models.recurrent import Gru

CHAIN_KINDS = ("image", "line", "text", "numbers")
Draw = Callable[[st.SearchStrategy[Any]], Any]
Made = tuple[Callable[[], nn.Module], tuple[int, ...]]


def random_chain(draw: Draw, kind: str) -> Chain:
    """Return a chain over images, lines, symbols or rows of numbers."""
    if kind == "text":
        width, positions = draw(st.integers(1, 20)), draw(st.integers(1, 5))
        kinds, _ = _chain(draw, _for_sequence, (positions, width), 3)
        layers = [lambda: nn.Embedding(6, width), *kinds]
        return Chain(
            layers=lambda: [make() for make in layers],
            shape=(positions,),
            head=draw(st.sampled_from(["flat", "each"])),
            symbols=True,
        )
    sizes = {"image": (20, 7, 7), "line": (20, 12), "numbers": (40,)}[kind]
    shape = tuple(draw(st.integers(1, size)) for size in sizes)
    layers, last = _chain(draw, _for_row if kind == "numbers" else _for_image, shape, 4)
    if kind != "numbers" and draw(st.booleans()):
        width = 1
        for size in last:
            width *= size
        layers = [*layers, nn.Flatten, *_chain(draw, _for_row, (width,), 2)[0]]
    return Chain(layers=lambda: [make() for make in layers], shape=shape)


def _chain(
    draw: Draw, choose: Callable[[Draw, tuple[int, ...]], Made], shape: tuple[int, ...], most: int
) -> tuple[list[Callable[[], nn.Module]], tuple[int, ...]]:
    layers: list[Callable[[], nn.Module]] = []
    for _ in range(draw(st.integers(1, most))):
        layer, shape = choose(draw, shape)
        layers.append(layer)
    return layers, shape


def _anywhere(draw: Draw, shape: tuple[int, ...]) -> Made:
    share = draw(st.sampled_from([0.1, 0.5]))
    return draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, lambda: nn.Dropout(share)])), shape


def _for_row(draw: Draw, shape: tuple[int, ...]) -> Made:
    wide = draw(st.integers(1, 20))
    choice = draw(st.sampled_from(["linear", "norm", "other"]))
    if choice == "linear":
        biased = draw(st.booleans())
        return (lambda: nn.Linear(shape[-1], wide, biased)), (*shape[:-1], wide)
    if choice == "norm" and shape[-1] > 2:
        return (lambda: nn.LayerNorm(shape[-1], eps=0.1)), shape
    return _anywhere(draw, shape)


def _for_sequence(draw: Draw, shape: tuple[int, ...]) -> Made:
    if draw(st.booleans()):
        wide = draw(st.integers(1, 20))
        return (lambda: Gru(shape[1], wide)), (shape[0], wide)
    return _for_row(draw, shape)


def _for_image(draw: Draw, shape: tuple[int, ...]) -> Made:
    choice = draw(st.sampled_from(["convolution", "convolution", "max", "average", "adaptive", "norm", "other"]))
    one = len(shape) == 2
    if choice == "convolution":
        channels, biased = draw(st.integers(1, 20)), draw(st.booleans())
        kernel, stride, padding, dilation, sizes = _window(draw, shape[1:], pooling=False)
        kind = nn.Conv1d if one else nn.Conv2d
        return (lambda: kind(shape[0], channels, kernel, stride, padding, dilation, bias=biased)), (channels, *sizes)
    if choice in ("max", "average"):
        kernel, stride, padding, dilation, sizes = _window(draw, shape[1:], pooling=True, dilated=choice == "max")
        if choice == "max":
            largest = nn.MaxPool1d if one else nn.MaxPool2d
            return (lambda: largest(kernel, stride, padding, dilation)), (shape[0], *sizes)
        mean = nn.AvgPool1d if one else nn.AvgPool2d
        return (lambda: mean(kernel, stride, padding)), (shape[0], *sizes)
    if choice == "adaptive":
        kinds = [(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)]
        of_all = draw(st.sampled_from(kinds))[0 if one else 1]
        return (lambda: of_all(1)), (shape[0], *(1 for _ in shape[1:]))
    groups = [number for number in range(1, shape[0] + 1) if shape[0] % number == 0]
    block = shape[0]
    for size in shape[1:]:
        block *= size
    groups = [number for number in groups if block // number > 3]
    if choice == "norm" and groups:
        number = draw(st.sampled_from(groups))
        return (lambda: nn.GroupNorm(number, shape[0], eps=0.1)), shape
    return _anywhere(draw, shape)


def _window(draw: Draw, sizes: tuple[int, ...], *, pooling: bool, dilated: bool = True) -> tuple[tuple[int, ...], ...]:
    """Return kernel, stride, padding and dilation along each axis, and the sizes that come out."""
    axes = [_axis(draw, size, pooling, dilated) for size in sizes]
    return tuple(tuple(values) for values in zip(*axes, strict=True))


def _axis(draw: Draw, size: int, pooling: bool, dilated: bool) -> tuple[int, int, int, int, int]:
    kernel = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 3)) if dilated else 1
    # A window of a pooling must not lie in the padding alone.
    most = (kernel // 2 if dilation == 1 else 0) if pooling else dilation * (kernel - 1)
    padding = draw(st.integers(0, most))
    stride = draw(st.integers(1, 3))
    after = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return (kernel, stride, padding, dilation, after) if after > 0 else (1, 1, 0, 1, size)
