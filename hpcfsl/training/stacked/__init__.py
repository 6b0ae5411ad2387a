"""Local training of a chunk of clients as one batched computation: weights [clients, ...], samples folded together.

`executor` runs the chunk, `graph` makes one step of a model from stacked layers, `layers` holds those, one file a kind,
`functional` makes the step of any other model by `torch.func`, `capture` records a step as a CUDA graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from hpcfsl.errors import ConfigError
from hpcfsl.models.link import Link
from hpcfsl.models.split import SplitModel
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked.executor import StackedExecutor
from hpcfsl.training.stacked.functional import FunctionalStep
from hpcfsl.training.stacked.graph import GraphStep, UnstackableError
from hpcfsl.training.stacked.trial import try_step

__all__ = ["StackedExecutor", "make_stacked"]

S = TypeVar("S", GraphStep, FunctionalStep)


def make_stacked(
    model: SplitModel, settings: TrainingSettings, device: torch.device
) -> StackedExecutor | OneByOneExecutor:
    """Return the executor that stacks as much as the model allows: its layers, by `torch.func`, or nothing.

    Raises:
        ConfigError: CUDA graphs are asked for, and the model can only be trained one by one.
    """
    try:
        return StackedExecutor(model, settings, device, _tried(GraphStep, model, settings, device))
    except UnstackableError as error:
        reason = str(error)
    try:
        functional = _tried(FunctionalStep, model, settings, device)
        return StackedExecutor(model, settings, device, functional, detail=f"by torch.func: {reason}")
    except UnstackableError as error:
        reason = f"{reason}; by torch.func: {error}"
    if settings.cuda_graphs:
        raise ConfigError("training.cuda_graphs", True, f"cannot record this model ({reason}); use false")
    return OneByOneExecutor(model, settings, device, detail=f"not stacked: {reason}")


def _tried(kind: type[S], model: SplitModel, settings: TrainingSettings, device: torch.device) -> S:
    """Return the step of a model, once that of the model without its compression has been tried.

    What is compressed may fall on one side of a rounding when it is stacked and on the other when it is not.
    """
    plain = replace(model, link=Link())
    step = kind(plain, settings, device)
    try_step(step, plain, device, settings.loss)
    return step if type(model.link) is Link else kind(model, settings, device)
