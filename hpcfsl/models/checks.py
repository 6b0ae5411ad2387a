"""What a module must be like to be trained in many copies at once, with the same bits on any number of ranks.

Layer 1. No statistics of the batch (they mix samples, and would travel outside the update), no random numbers drawn
inside the forward pass (they would depend on the order of calls; `nn.Dropout` gets its masks from outside), and
parameters that the seed alone decides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from hpcfsl.errors import ConfigError
from hpcfsl.models.dropout import MAX_LAYERS, KeyedDropout
from hpcfsl.models.initial import find_unset

Predicts = Literal["classes", "numbers"]
"""What a model's outputs are: logits of classes, or numbers themselves."""


def refuse_layers(module: nn.Module, section: str) -> None:
    """Raise ConfigError for a layer that cannot be used, naming it and what to use instead."""
    for name, layer in module.named_modules():
        fix = _fault_of(layer)
        if fix is not None:
            raise ConfigError(section, f"{name or 'the model'} ({type(layer).__name__})", fix)


def _fault_of(layer: nn.Module) -> str | None:
    if isinstance(layer, _InstanceNorm):
        running = "keeps running statistics; use GroupNorm, or track_running_stats=False"
        return running if layer.track_running_stats else None
    if isinstance(layer, _BatchNorm):
        return "normalises by statistics of the batch, which clients do not share; use GroupNorm"
    return _random_fault_of(layer)


def _random_fault_of(layer: nn.Module) -> str | None:
    if type(layer) is nn.Dropout:
        return None if layer.p < 1 else "drops everything; set p below 1"
    if isinstance(layer, _DropoutNd) and layer.p > 0:
        return "draws random numbers that no key decides; use nn.Dropout, leave it out or set p=0"
    if isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0:
        return "drops by random numbers that no key decides; set dropout=0 and use nn.Dropout layers"
    return None


def refuse_parameters(module: nn.Module, section: str) -> None:
    """Raise ConfigError for parameters that are missing, lazy, frozen, not finite float32 or not decided by a seed."""
    parameters = list(module.named_parameters())
    if not parameters:
        raise ConfigError(section, type(module).__name__, "has no parameters to train; add a layer that has some")
    for name, parameter in parameters:
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ConfigError(section, name, "has no shape yet; use the layer that is not lazy")
        if parameter.dtype != torch.float32:
            raise ConfigError(section, name, f"is {parameter.dtype}; build the model in torch.float32")
        if not parameter.requires_grad:
            raise ConfigError(section, name, "is frozen; make it a buffer, or set requires_grad=True")
        if not bool(torch.isfinite(parameter).all()):
            raise ConfigError(section, name, "holds NaN or infinity before any training; start it from finite numbers")
    unset = find_unset(module)
    if unset is not None:
        raise ConfigError(section, unset, "is not set by the seed; set it in its layer's reset_parameters method")


def prepare(module: nn.Module, section: str) -> nn.Module:
    """Return a copy on the processor, in training mode, whose layers leave their inputs alone, with keyed dropout.

    The smashed data is needed again after the server half has run, for instance to be recorded.

    Raises:
        ConfigError: It has more dropout layers than there are lanes of random words.
    """
    module = _with_keyed_dropout(copy.deepcopy(module), section).cpu().train()
    for layer in module.modules():
        if getattr(layer, "inplace", False) is True:
            setattr(layer, "inplace", False)  # noqa: B010  # torch types attributes of a module as tensors
    return module


def _with_keyed_dropout(module: nn.Module, section: str) -> nn.Module:
    layers = [layer for layer in module.modules() if type(layer) is nn.Dropout and layer.p > 0]
    if len(layers) > MAX_LAYERS:
        raise ConfigError(section, f"{len(layers)} dropout layers", f"use at most {MAX_LAYERS}")
    keyed = {id(layer): KeyedDropout(layer.p, number) for number, layer in enumerate(layers)}
    # Every place in every parent: one layer may stand in several.
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if id(child) in keyed:
                parent._modules[name] = keyed[id(child)]
    return keyed.get(id(module), module)


def trial_inputs(sample_shape: tuple[int, ...], vocabulary: int) -> Tensor:
    """Return a batch [2, *sample_shape]: float32, or with a vocabulary int64 symbols, the largest one first."""
    size = 2 * math.prod(sample_shape)
    values = vocabulary - 1 - torch.arange(size) % vocabulary if vocabulary else torch.linspace(0.0, 1.0, size)
    return values.reshape(2, *sample_shape)


def try_whole(
    module: nn.Module,
    inputs: Tensor,
    target_shape: tuple[int, ...],
    section: str,
    *,
    predicts: Predicts = "classes",
) -> Tensor:
    """Run `inputs`, [2, ...], through a module; return logits [2, *target_shape, classes], or numbers.

    Raises:
        ConfigError: The module cannot take the samples, draws random numbers, returns something else, or changes its
            buffers.
    """
    name, module = type(module).__name__, copy.deepcopy(module)
    before = copy.deepcopy(dict(module.named_buffers()))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        logits = _run(module, inputs.clone(), section)
        if not torch.equal(state, torch.random.get_rng_state()):
            raise ConfigError(section, name, "draws random numbers that no key decides; take them out of forward")
    outputs = _checked(logits, target_shape, predicts, section, name)
    for key, buffer in module.named_buffers():
        if key not in before or not _same(before[key], buffer):
            raise ConfigError(section, key, "is a buffer that forward changes; make it constant, or use GroupNorm")
    return outputs


def _checked(outputs: object, target_shape: tuple[int, ...], predicts: Predicts, section: str, name: str) -> Tensor:
    """Return `outputs`; raise ConfigError unless `outputs` are what the targets of two samples need."""
    numbers = predicts == "numbers"
    if isinstance(outputs, Tensor) and (outputs.shape if numbers else outputs.shape[:-1]) == (2, *target_shape):
        return outputs
    wanted = ", ".join(map(str, (2, *target_shape) if numbers else (2, *target_shape, "classes")))
    fix = f"return numbers [{wanted}], or store classes as integers" if numbers else f"return logits [{wanted}]"
    raise ConfigError(section, name, f"returns {_describe(outputs)} for 2 samples; {fix}")


def measure_dropout(module: nn.Module, inputs: Tensor, section: str) -> None:
    """Run `inputs`, [2, ...], through a module and set `features` of its dropout layers.

    Raises:
        ConfigError: A dropout layer is called never or twice, or its input does not begin with the samples: there is
            one mask a layer.
    """
    names = {layer: name for name, layer in module.named_modules() if isinstance(layer, KeyedDropout)}
    shapes: dict[nn.Module, list[tuple[int, ...]]] = {layer: [] for layer in names}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, given: shapes[layer].append(tuple(given[0].shape)))
        for layer in names
    ]
    if hooks:
        with torch.no_grad():
            module(inputs.clone())
    for hook in hooks:
        hook.remove()
    for layer, name in names.items():
        if len(shapes[layer]) != 1 or shapes[layer][0][:1] != (2,):
            fix = "must be called once, on a tensor [samples, ...]; use one nn.Dropout for each call"
            raise ConfigError(section, name or "the model", fix)
        layer.features = shapes[layer][0][1:]


def try_parts(
    parts: Sequence[nn.Module], inputs: Tensor, outputs: Tensor, key: str, cut: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Run `inputs` through client half, server half and tail; return the shapes that cross the cuts, of one sample.

    Raises:
        ConfigError: No single tensor [2, ...] crosses a cut, a part changes what it is given, or the parts do not
            compute `outputs`.
    """
    crossing, kept = [inputs.clone()], [inputs]
    with torch.no_grad():
        for part in parts:
            passed = part(crossing[-1])
            if not isinstance(passed, Tensor) or passed.ndim == 0 or passed.shape[0] != 2:
                fix = f"passes on {_describe(passed)} for 2 samples, not one tensor [2, ...]; choose another, or 'none'"
                raise ConfigError(key, cut, fix)
            crossing.append(passed)
            kept.append(passed.clone())
    same = all(_same(one, other) for one, other in zip(kept, crossing, strict=True))
    if not (same and _same(crossing[-1], outputs)):
        raise ConfigError(key, cut, "forward changes tensors in place or branches; rewrite it, or choose another cut")
    return tuple(crossing[1].shape[1:]), tuple(crossing[2].shape[1:])


def _run(module: nn.Module, inputs: Tensor, section: str) -> object:
    try:
        return module(inputs)
    except Exception as error:  # whatever the module's own code raises
        kind, fix = "samples", "choose a model for this data"
        if inputs.is_floating_point() and any(isinstance(layer, nn.Embedding) for layer in module.modules()):
            kind, fix = "numbers", "choose another model, or say how many symbols there are (vocabulary)"
        text = f"cannot take {kind} of shape {list(inputs.shape[1:])} ({error}); {fix}"
        raise ConfigError(section, type(module).__name__, text) from error


def _describe(value: object) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _same(one: Tensor, other: Tensor) -> bool:
    # Unlike torch.equal this takes NaN for equal to NaN.
    return one.shape == other.shape and torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
