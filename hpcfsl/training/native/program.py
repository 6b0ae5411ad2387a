"""From a split model to the numbers that the compiled engine runs.

A model is traced with `torch.fx`; where it is one straight line of layers that the engine knows, each becomes a record
of numbers. `Form` is what flows between two layers, as torch sees it. A new layer is one function here, entered in
`layers.EMITTERS`, and one class in `hpcfsl/native/src`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray
from torch import fx, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.graphs import UncuttableError, trace
from hpcfsl.models.link import Link
from hpcfsl.models.pooled import MeanEmbedding
from hpcfsl.models.sequences import Steps
from hpcfsl.models.split import SplitModel
from hpcfsl.training.native import layers
from hpcfsl.training.native.functions import layer_of_function
from hpcfsl.training.native.layers import Form, Places, Plan, Record, UnknownLayerError
from hpcfsl.training.settings import LossName

TOGETHER = 4
"""Clients that train in step where a wide layer is shared: more would share it better and leave the cache sooner."""

LOSSES: tuple[LossName, ...] = ("cross-entropy", "squared", "absolute", "huber")
"""In the order of `Loss` in loss.h."""

_OF_TOKENS = ("embedding", "mean-embedding")

MOST_LAYERS = 256
"""Layers of a program, as in engine.h."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A model in the engine's terms.

    Attributes:
        words: What the engine reads, int64.
        layers: The kind of each layer, for messages and timings.
        cuttable: Whether the server half can be run alone: it has layers, and torch's activations at both of its ends
            can be told.
        tokens: How many different tokens the input may have; 0 where it is not tokens.
        classes: Classes of the output; 0 where it predicts numbers.
        outputs: Targets of a sample.
    """

    words: NDArray[np.int64]
    layers: tuple[str, ...]
    cuttable: bool
    tokens: int
    classes: int
    outputs: int

    @property
    def inputs(self) -> str:
        """What the engine calls the samples."""
        return "tokens" if self.tokens else "inputs"

    @property
    def targets(self) -> str:
        """What the engine calls the targets."""
        return "classes" if self.classes else "numbers"


def compile_program(model: SplitModel, plan: Plan, *, timed: bool = False) -> Program:
    """Return the engine's program of a model.

    Args:
        model: The model.
        plan: What the choice of variants depends on.
        timed: Whether the engine measures each layer, which costs a little.

    Raises:
        UnknownLayerError: The engine cannot run it; says why.
    """
    steps = _flatten_first(list(_steps(model)))
    _check_parameters(model, steps)
    form, steps = _input_form(tuple(model.trial.shape[1:]), steps)
    records: list[Record] = []
    server: list[int] = []
    head, forms = form, [form]
    for name, step in steps:
        if 0 in form.shape:
            raise UnknownLayerError(f"layer {type(step).__name__} on nothing")
        record, form = layers.emit(step, form, Places(model.layout, name), plan, records)
        if record is not None:
            if name.startswith("server."):
                server.append(len(records))
            records.append(record)
            forms.append(form)
    numbers = model.predicts == "numbers"
    if numbers and form.shape != model.target_shape:
        raise UnknownLayerError(f"its output is {list(form.shape)}, not its targets' {list(model.target_shape)}")
    if form.kind not in ("flat", "sequence") or 0 in form.shape:
        raise UnknownLayerError(f"its output is {form.kind} {list(form.shape)}, not one row of classes")
    if len(records) > MOST_LAYERS:
        raise UnknownLayerError(f"it has {len(records)} layers, and the engine takes {MOST_LAYERS}")
    together = TOGETHER if any(record.kind == "shared-linear" for record in records) else 1
    words = [plan.batch, together, int(timed), model.layout.size, *_input_words(head, records), len(records)]
    edges = (server[0], server[-1] + 1) if server else (len(records), len(records))
    ends = [forms[edge] for edge in edges]
    words += [*edges, *(int(end.kind == "image") for end in ends)]
    words.append(_loss_number(plan.loss) if numbers else 0)
    for record in records:
        words += [layers.KINDS.index(record.kind), *record.words]
    return Program(
        words=np.array(words, np.int64),
        layers=tuple(record.kind for record in records),
        cuttable=len(server) == edges[1] - edges[0] > 0
        and [_torch_shape(end) for end in ends] == [model.smashed_shape, model.returned_shape],
        tokens=next((record.words[0] for record in records if record.kind in _OF_TOKENS), 0),
        classes=0 if numbers else form.shape[-1],
        outputs=prod(model.target_shape),
    )


def _steps(model: SplitModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers in the order they run, each with its name in the layout; functions as the layers they equal."""
    if type(model.link) is not Link:
        raise UnknownLayerError("its smashed data is compressed")
    for prefix, half in (("client.", model.client_half), ("server.", model.server_half), ("tail.", model.tail)):
        try:
            graph = trace(half)
        except UncuttableError as error:
            raise UnknownLayerError(str(error)) from error
        yield from _line(half, graph, prefix)


def _check_parameters(model: SplitModel, steps: list[tuple[str, nn.Module]]) -> None:
    """Raise UnknownLayerError unless each parameter belongs to one layer that runs once: each layer has a copy."""
    names = [f"{name}.{own}" for name, step in steps for own, _ in step.named_parameters()]
    for name in model.layout.names:
        if names.count(name) != 1:
            raise UnknownLayerError(f"parameter {name} is used {names.count(name)} times")


def _flatten_first(steps: list[tuple[str, nn.Module]]) -> list[tuple[str, nn.Module]]:
    """Return the layers with dropouts after the flattening that follows them, where masks have the features' order."""
    ordered = list(steps)
    for place in range(len(ordered) - 1, 0, -1):
        if isinstance(ordered[place][1], nn.Flatten) and isinstance(ordered[place - 1][1], KeyedDropout):
            ordered[place - 1], ordered[place] = ordered[place], ordered[place - 1]
    return ordered


def _line(half: nn.Module, graph: fx.Graph, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    last: fx.Node | None = None
    for node in graph.nodes:
        if node.all_input_nodes != ([] if last is None else [last]):
            raise UnknownLayerError(f"{node.name} does not follow {last}; the layers are no straight line")
        if node.op == "output":
            return
        if node.op == "call_module":
            yield f"{prefix}{node.target}", half.get_submodule(str(node.target))
        elif node.op != "placeholder":
            yield "", layer_of_function(node)
        last = node


def _input_form(shape: tuple[int, ...], steps: list[tuple[str, nn.Module]]) -> tuple[Form, list[tuple[str, nn.Module]]]:
    """Return what the samples are, which the first layer that minds decides, and the layers that are left."""
    steps = [(name, step) for name, step in steps if not isinstance(step, nn.Identity)]
    first = steps[0][1] if steps else None
    if isinstance(first, Steps) and len(shape) > 1:
        return Form(kind="sequence", shape=(shape[-1], prod(shape[:-1])), turned=True), steps[1:]
    if isinstance(first, nn.Flatten) and (first.start_dim, first.end_dim) == (1, 2) and len(shape) == 3:
        return _input_form((shape[0] * shape[1], shape[2]), steps[1:])
    return _plain_form(shape, first), steps


def _plain_form(shape: tuple[int, ...], first: nn.Module | None) -> Form:
    if isinstance(first, nn.Embedding | MeanEmbedding):
        return Form(kind="tokens", shape=shape)
    if isinstance(first, nn.Flatten) or len(shape) == 1:
        return Form(kind="flat", shape=(prod(shape),))
    if len(shape) == 2 and isinstance(first, nn.Linear | nn.GRU | nn.LayerNorm):
        return Form(kind="sequence", shape=shape)
    if len(shape) not in (2, 3):
        raise UnknownLayerError(f"samples of shape {list(shape)}")
    line = len(shape) == 2
    return Form(kind="image", shape=(shape[0], 1, shape[1]) if line else shape, line=line)


def _loss_number(loss: LossName) -> int:
    return LOSSES.index("squared" if loss == "auto" else loss)


def _torch_shape(form: Form) -> tuple[int, ...]:
    """Return the shape in which torch has what flows between two layers."""
    return (form.shape[0], form.shape[2]) if form.line else form.shape


def _input_words(form: Form, records: list[Record]) -> list[int]:
    sizes = [*form.shape, 0, 0][:3]
    exact = form.kind == "image" and bool(records) and records[0].kind == "convolution"
    kind = "turned" if form.turned else form.kind
    return [("flat", "sequence", "image", "tokens", "turned").index(kind), *sizes, int(exact)]
