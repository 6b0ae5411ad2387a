"""Initial weights as a function of the seed alone.

Layer 1. Every layer's own `reset_parameters` draws from torch's generator of the processor, which is forked and seeded
from the run's stream, so that nothing else sees it and all ranks get the same bits.
"""

from __future__ import annotations

import copy
import threading

import torch
from torch import nn

from hpcfsl.seeding import Purpose, random_key

_GENERATOR = threading.Lock()
"""Held by the thread that has seeded torch's generator, which is one for all threads."""


def reset_weights(module: nn.Module, seed: int) -> None:
    """Set all parameters of `module`, which is on the processor, in place; torch's random state stays untouched."""
    # fork_rng and manual_seed would reach for every GPU by default; the weights are drawn on the processor only.
    with _GENERATOR, torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(random_key(seed, Purpose.MODEL_INIT))
        # Inner layers before outer ones, because an outer reset may adjust what the inner one has set.
        for layer in reversed(list(module.modules())):
            reset = getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)
            if reset is not None:
                reset()


def find_unset(module: nn.Module) -> str | None:
    """Return the name of the first parameter that `reset_weights` leaves as it found it, or None."""
    ends = []
    for start in (0.25, 0.5):
        trial = copy.deepcopy(module)
        for parameter in trial.parameters():
            nn.init.constant_(parameter, start)
        reset_weights(trial, 0)
        ends.append(dict(trial.named_parameters()))
    return next((name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])), None)
