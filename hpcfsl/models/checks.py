"""What a module must be like to be trained in many copies at once, with the same bits on any number of ranks.

Layer 1. No statistics of the batch (they mix samples, and would travel outside the update), no random numbers inside
the forward pass (they would depend on the order of calls), and parameters that the seed alone decides.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from hpcfsl.errors import ConfigError
from hpcfsl.models.initial import find_unset


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
    if isinstance(layer, _DropoutNd) and layer.p > 0:
        return "draws random numbers that no key decides; leave it out or set p=0"
    return None


def refuse_parameters(module: nn.Module, section: str) -> None:
    """Raise ConfigError for parameters that are missing, lazy, frozen, not float32, or not decided by the seed."""
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
    unset = find_unset(module)
    if unset is not None:
        raise ConfigError(section, unset, "is not set by the seed; set it in its layer's reset_parameters method")


def without_inplace(module: nn.Module) -> nn.Module:
    """Return a copy on the processor whose layers leave their inputs alone, with the same results.

    The smashed data is needed again after the server half has run, for instance to be recorded.
    """
    module = copy.deepcopy(module).cpu()
    for layer in module.modules():
        if getattr(layer, "inplace", False) is True:
            setattr(layer, "inplace", False)  # noqa: B010  # torch types attributes of a module as tensors
    return module


def try_batch(
    module: nn.Module,
    client: nn.Module,
    server: nn.Module,
    sample_shape: tuple[int, ...],
    section: str,
    key: str,
    cut: str,
) -> tuple[int, ...]:
    """Run a batch of 2 through the whole module and through both halves; return the shape of one smashed sample.

    Raises:
        ConfigError: The module cannot take the samples, its output is no [batch, classes], it changes its buffers or
            draws random numbers, no single tensor crosses the cut, or the halves compute something else.
    """
    inputs = torch.linspace(0.0, 1.0, 2 * torch.Size(sample_shape).numel()).reshape(2, *sample_shape)
    logits = _try_whole(module, inputs, section)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        smashed = client(inputs)
        if not isinstance(smashed, Tensor):
            raise ConfigError(key, cut, f"passes on a {type(smashed).__name__}, not one tensor; choose another cut")
        if smashed.ndim == 0 or smashed.shape[0] != 2:
            fix = f"passes on {list(smashed.shape)} for 2 samples, not [2, ...]; choose another cut"
            raise ConfigError(key, cut, fix)
        kept = smashed.clone()
        same = torch.equal(server(smashed), logits)
    if not same or not torch.equal(kept, smashed):
        raise ConfigError(key, cut, "forward changes tensors in place or branches; choose another cut or 'none'")
    return tuple(smashed.shape[1:])


def _try_whole(module: nn.Module, inputs: Tensor, section: str) -> Tensor:
    name = type(module).__name__
    module = copy.deepcopy(module).train()
    buffers = {key: buffer.clone() for key, buffer in module.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        try:
            logits = module(inputs.clone())
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            fix = f"cannot take samples of shape {list(inputs.shape[1:])} ({error}); choose a model for this data"
            raise ConfigError(section, name, fix) from error
        if not torch.equal(state, torch.random.get_rng_state()):
            raise ConfigError(section, name, "draws random numbers that no key decides; take them out of forward")
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != 2:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(section, name, f"returns {found} for 2 samples; it must return logits [2, classes]")
    for key, buffer in module.named_buffers():
        if not torch.equal(buffers[key], buffer):
            raise ConfigError(section, key, "is a buffer that forward changes; make it constant, or use GroupNorm")
    return logits
