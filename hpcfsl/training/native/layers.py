"""Every layer that the compiled engine knows: from the torch module to its record in a program."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

from torch import Tensor, nn

from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.models.layout import Layout
from hpcfsl.models.pooled import MeanEmbedding
from hpcfsl.models.recurrent import Gru
from hpcfsl.models.sequences import LastPosition, MeanPosition
from hpcfsl.seeding import Purpose
from hpcfsl.training.settings import LossName

# In the order of `Kind` in program.h.
KINDS = (
    "linear",
    "convolution",
    "max-pooling",
    "average-pooling",
    "relu",
    "tanh",
    "sigmoid",
    "flatten",
    "dropout",
    "embedding",
    "gru",
    "norm",
    "shared-linear",
    "mean-embedding",
)
# Activations work in place on what these gave out: none of them reads its own output in its backward pass.
_LEAVE_OUTPUT = (
    "linear",
    "convolution",
    "max-pooling",
    "average-pooling",
    "flatten",
    "embedding",
    "norm",
    "shared-linear",
    "mean-embedding",
)

_LINE_LAYERS = (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d)

WIDE = 1 << 18
"""Weights from which on a fully connected layer is wide: a megabyte, what a core's own cache holds."""


class UnknownLayerError(Exception):
    """Why the engine cannot run a model."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What flows between two layers, for one sample.

    Attributes:
        kind: Flat features, a sequence [positions, features], an image [channels, height, width], tokens [positions].
        shape: Its sizes in that order.
        line: Whether an image is a line to torch, [channels, length]; its height is 1 here.
        turned: Whether samples hold a sequence the other way round, [features, positions].
    """

    kind: Literal["flat", "sequence", "image", "tokens"]
    shape: tuple[int, ...]
    line: bool = False
    turned: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """One layer in a program."""

    kind: str
    words: list[int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the choice of variants depends on; the same for all clients of a run, so that none changes another's bits.

    Attributes:
        batch: Samples in a local step.
        seen: The most samples that a client sees in a round, all epochs counted.
        rate: Step size of the client half where the local step is plain descent; 0 otherwise.
        server_rate: The same of the server half.
        loss: The loss, where the model predicts numbers.
        share_from: Weights from which on a fully connected layer is shared under plain descent.
    """

    batch: int
    seen: int
    rate: float
    server_rate: float
    loss: LossName = "auto"
    share_from: int = WIDE


@dataclass(frozen=True)
class Places:
    """Where a layer's parameters lie in the model's vector."""

    layout: Layout
    name: str

    @property
    def at_server(self) -> bool:
        """Whether the layer belongs to the server half."""
        return self.name.startswith("server.")

    def __getitem__(self, parameter: str) -> int:
        """Return the place of a parameter's first number.

        Raises:
            UnknownLayerError: It stands in the layout under another layer's name.
        """
        place = self.layout.slices.get(f"{self.name}.{parameter}")
        if place is None:
            raise UnknownLayerError(f"{self.name}.{parameter} is not a parameter of this layer alone")
        return int(place.start)


Emitted = tuple[Record | None, Form]
Emitter = Callable[[Any, Form, Places, Plan, list[Record]], Emitted]


def emit(layer: nn.Module, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    """Return a layer's record, or None where it does nothing, and what flows out of it.

    Raises:
        UnknownLayerError: The engine does not know the layer, or not with these settings.
    """
    emitter = EMITTERS.get(type(layer))
    if emitter is None:
        raise UnknownLayerError(f"layer {type(layer).__name__}")
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
        raise UnknownLayerError(f"layer {type(layer).__name__} with hooks")
    return emitter(layer, form, places, plan, before)


def _linear(layer: nn.Linear, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind in ("flat", "sequence") and form.shape[-1] == layer.in_features, layer, form)
    biased = isinstance(layer.bias, Tensor)
    words = [layer.out_features, int(biased), places["weight"], places["bias"] if biased else 0]
    after = Form(kind=form.kind, shape=(*form.shape[:-1], layer.out_features))
    wide = layer.in_features * layer.out_features >= plan.share_from
    # Keeping samples instead of weights pays while they are few against the layer's outputs.
    rate = plan.server_rate if places.at_server else plan.rate
    if form.kind == "flat" and rate > 0 and wide and plan.seen <= layer.out_features:
        return Record(kind="shared-linear", words=[*words, plan.seen, _real(rate)]), after
    return Record(kind="linear", words=words), after


def _convolution(layer: nn.Conv1d | nn.Conv2d, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(_fits(layer, form) and form.shape[0] == layer.in_channels, layer, form)
    _need(layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str), layer, form)
    window = _window(layer, form)
    kernel, padding, dilation = window[:2], window[4:6], window[6:]
    inside = all(pad <= step * (size - 1) for size, pad, step in zip(kernel, padding, dilation, strict=True))
    _need(inside, layer, form)
    bias = places["bias"] if layer.bias is not None else 0
    words = [layer.out_channels, int(layer.bias is not None), places["weight"], bias, *window]
    return Record(kind="convolution", words=words), _after(layer.out_channels, form, window)


def _max_pooling(
    layer: nn.MaxPool1d | nn.MaxPool2d, form: Form, places: Places, plan: Plan, before: list[Record]
) -> Emitted:
    _need(_fits(layer, form) and not layer.ceil_mode and not layer.return_indices, layer, form)
    window = _window(layer, form)
    return Record(kind="max-pooling", words=window), _after(form.shape[0], form, window)


def _average_pooling(
    layer: nn.AvgPool1d | nn.AvgPool2d, form: Form, places: Places, plan: Plan, before: list[Record]
) -> Emitted:
    plain = not layer.ceil_mode and layer.count_include_pad and getattr(layer, "divisor_override", None) is None
    _need(_fits(layer, form) and plain, layer, form)
    window = _window(layer, form)
    return Record(kind="average-pooling", words=window), _after(form.shape[0], form, window)


def _adaptive_pooling(layer: nn.Module, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    size = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,)
    _need(_fits(layer, form) and all(wanted == 1 for wanted in size), layer, form)
    channels, height, width = form.shape
    kind = "max-pooling" if isinstance(layer, nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d) else "average-pooling"
    return Record(kind=kind, words=[height, width, 1, 1, 0, 0, 1, 1]), replace(form, shape=(channels, 1, 1))


def _activation(kind: str) -> Emitter:
    def emitter(layer: nn.Module, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
        _need(form.kind != "tokens", layer, form)
        return Record(kind=kind, words=[int(_may_overwrite(before))]), form

    return emitter


def _flatten(layer: nn.Flatten, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(layer.start_dim == 1 and layer.end_dim == -1 and form.kind != "tokens", layer, form)
    after = Form(kind="flat", shape=(prod(form.shape),))
    if form.kind == "flat":
        return None, after
    return Record(kind="flatten", words=[int(form.kind == "image")]), after


def _dropout(layer: KeyedDropout, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    threshold = round(layer.p * 2**32)
    _need(form.kind != "tokens" and layer.layer < MAX_LAYERS and threshold < 2**32, layer, form)
    in_place = int(_may_overwrite(before))
    words = [
        in_place,
        int(form.kind == "image"),
        layer.layer,
        threshold,
        _real(1 / (1 - layer.p)),
        Purpose.DROPOUT,
    ]
    return Record(kind="dropout", words=words), form


def _embedding(layer: nn.Embedding, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    plain = layer.padding_idx is None and layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    _need(form.kind == "tokens" and len(form.shape) == 1 and plain, layer, form)
    after = Form(kind="sequence", shape=(form.shape[0], layer.embedding_dim))
    return Record(kind="embedding", words=[layer.num_embeddings, layer.embedding_dim, places["weight"]]), after


def _mean_embedding(layer: MeanEmbedding, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind == "tokens" and len(form.shape) == 1, layer, form)
    inner = layer.embedding
    words = [inner.num_embeddings, inner.embedding_dim, places["embedding.weight"], layer.padding]
    return Record(kind="mean-embedding", words=words), Form(kind="flat", shape=(inner.embedding_dim,))


def _mean_position(layer: MeanPosition, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind == "sequence", layer, form)
    words = [1, form.shape[0], 1, 1, 0, 0, 1, 1]
    return Record(kind="average-pooling", words=words), Form(kind="flat", shape=form.shape[1:])


def _last_position(layer: LastPosition, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind == "sequence" and layer.axis == 1, layer, form)
    # The average of a window of one position; padding below zero starts the windows at the last one.
    words = [1, 1, 1, form.shape[0], 0, 1 - form.shape[0], 1, 1]
    return Record(kind="average-pooling", words=words), Form(kind="flat", shape=form.shape[1:])


def _gru(layer: Gru, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind == "sequence" and form.shape[1] == layer.input_size, layer, form)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    words = [layer.hidden_size, *(places[name] for name in names)]
    return Record(kind="gru", words=words), Form(kind="sequence", shape=(form.shape[0], layer.hidden_size))


def _group_norm(layer: nn.GroupNorm, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    _need(form.kind == "image" and form.shape[0] == layer.num_channels and layer.affine, layer, form)
    words = [layer.num_groups, 0, _real(layer.eps), places["weight"], places["bias"]]
    return Record(kind="norm", words=words), form


def _layer_norm(layer: nn.LayerNorm, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    last = form.kind in ("flat", "sequence") and tuple(layer.normalized_shape) == form.shape[-1:]
    _need(last and layer.elementwise_affine and layer.bias is not None, layer, form)
    return Record(kind="norm", words=[1, 1, _real(layer.eps), places["weight"], places["bias"]]), form


def _nothing(layer: nn.Module, form: Form, places: Places, plan: Plan, before: list[Record]) -> Emitted:
    return None, form


EMITTERS: dict[type[nn.Module], Emitter] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.MaxPool1d: _max_pooling,
    nn.MaxPool2d: _max_pooling,
    nn.AvgPool1d: _average_pooling,
    nn.AvgPool2d: _average_pooling,
    nn.AdaptiveAvgPool1d: _adaptive_pooling,
    nn.AdaptiveAvgPool2d: _adaptive_pooling,
    nn.AdaptiveMaxPool1d: _adaptive_pooling,
    nn.AdaptiveMaxPool2d: _adaptive_pooling,
    nn.ReLU: _activation("relu"),
    nn.Tanh: _activation("tanh"),
    nn.Sigmoid: _activation("sigmoid"),
    nn.Flatten: _flatten,
    KeyedDropout: _dropout,
    nn.Dropout: _nothing,  # p = 0: any other was replaced when the model was split
    nn.Identity: _nothing,
    nn.Embedding: _embedding,
    MeanEmbedding: _mean_embedding,
    MeanPosition: _mean_position,
    LastPosition: _last_position,
    Gru: _gru,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}


def _window(layer: Any, form: Form) -> list[int]:
    """Return kernel, stride, padding and dilation as (height, width) each; a sequence has height 1."""
    pairs = ((layer.kernel_size, 1), (layer.stride, 1), (layer.padding, 0), (getattr(layer, "dilation", 1), 1))
    words: list[int] = []
    for value, neutral in pairs:
        last = value if isinstance(value, tuple) else (value,) * (1 if form.line else 2)
        words += [neutral, last[0]] if form.line else list(last)
    return words


def _after(channels: int, form: Form, window: list[int]) -> Form:
    sizes = [
        (form.shape[1 + axis] + 2 * window[4 + axis] - window[6 + axis] * (window[axis] - 1) - 1) // window[2 + axis]
        + 1
        for axis in range(2)
    ]
    return replace(form, shape=(channels, *sizes))


def _fits(layer: nn.Module, form: Form) -> bool:
    """Return whether the form is an image of the layer's dimensions; torch would take another for one large sample."""
    return form.kind == "image" and form.line == isinstance(layer, _LINE_LAYERS)


def _may_overwrite(before: list[Record]) -> bool:
    return bool(before) and before[-1].kind in _LEAVE_OUTPUT


def _need(condition: bool, layer: nn.Module, form: Form) -> None:
    if not condition:
        raise UnknownLayerError(f"layer {layer} on {form.kind} {list(form.shape)}")


def _real(value: float) -> int:
    """Return the bits of a float64 as an int64, which is how a program holds it."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])
