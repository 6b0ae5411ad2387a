"""Local training of a chunk of clients as one batched computation: weights [clients, ...], samples folded together.

`executor` runs the chunk, `graph` makes one step of a model from stacked layers, `layers` holds those, one file a kind,
`functional` makes the step of any other model by `torch.func`, `capture` records a step as a CUDA graph.
"""

from __future__ import annotations

import torch

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked.executor import StackedExecutor
from hpcfsl.training.stacked.functional import FunctionalStep
from hpcfsl.training.stacked.graph import GraphStep, UnstackableError
from hpcfsl.training.stacked.trial import try_step

__all__ = ["StackedExecutor", "make_stacked"]


def make_stacked(
    model: SplitModel, settings: TrainingSettings, device: torch.device
) -> StackedExecutor | OneByOneExecutor:
    """Return the executor that stacks as much as the model allows: its layers, by `torch.func`, or nothing.

    Raises:
        ConfigError: CUDA graphs are asked for, and the model can only be trained one by one.
    """
    try:
        step = GraphStep(model, settings, device)
        try_step(step, model, device, settings.loss)
        return StackedExecutor(model, settings, device, step)
    except UnstackableError as error:
        reason = str(error)
    try:
        functional = FunctionalStep(model, settings, device)
        try_step(functional, model, device, settings.loss)
        return StackedExecutor(model, settings, device, functional, detail=f"by torch.func: {reason}")
    except UnstackableError as error:
        reason = f"{reason}; by torch.func: {error}"
    if settings.cuda_graphs:
        raise ConfigError("training.cuda_graphs", True, f"cannot record this model ({reason}); use false")
    return OneByOneExecutor(model, settings, device, detail=f"not stacked: {reason}")
