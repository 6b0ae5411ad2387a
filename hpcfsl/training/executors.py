"""Choosing how a group's clients train, and training them chunk by chunk.

`native` runs compiled kernels, `stacked` one batched computation for a chunk of clients, `one-by-one` a loop over
clients. All give the same updates to float tolerance; which is the fastest depends on the layers and the device. The
choice is a setting (or follows from the model and the device under `auto`), never a timing, because a timing would
break the same bits at another number of ranks. A model that cannot be stacked is trained one by one, and the
executor's `detail` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel
from hpcfsl.training.native.executor import NativeExecutor, why_not
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked import make_stacked
from hpcfsl.training.staging import Stager
from hpcfsl.training.table import Candidate, find_candidate, key_of
from hpcfsl.training.updates import FirstUpdates, LocalData, gather, rows_of

UNKNOWN = 1 << 40
"""Samples of the largest client where nobody counted."""

HEAVY = (nn.Conv2d, nn.Conv3d, nn.LSTM)
"""Layers that a CPU trains faster client by client than stacked: one client's numbers stay in its cache."""


class Executor(Protocol):
    """Trains a chunk of clients, from common weights or each from its own."""

    name: str
    detail: str
    """How, and why not otherwise; empty where there is nothing to say."""
    whole_groups: bool
    """Whether it takes a group of any size at once, needing no more memory for it than the updates."""
    chunk_clients: int
    """Clients that it is given at a time otherwise."""

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk; `start` is float32 [params], or [clients, params]."""
        ...


def make_executor(
    model: SplitModel,
    settings: TrainingSettings,
    device: torch.device,
    *,
    most_samples: int = UNKNOWN,
    alike: bool = True,
) -> Executor:
    """Return the executor of a run.

    Args:
        model: The model.
        settings: Local training.
        device: Where this rank computes.
        most_samples: Training samples of the population's largest client, where that is known.
        alike: Whether clients start from common weights and have no drift, so that they may share work.

    Raises:
        ConfigError: The settings ask for what the device or the executor cannot do.
        MemoryError: There is not enough memory.
    """
    choice = choose(model, settings, device)
    choice = replace(choice, share_wide=choice.share_wide and alike)
    settings = settings.replace(chunk_clients=choice.chunk_clients)
    made = make_candidate(choice, model, settings, device, most_samples=most_samples)
    if (
        made.name != "native"
        and settings.executor == "auto"
        and device.type != "cuda"
        and settings.precision == "float32"
    ):
        reason = why_not(model) or "slower by the table of executors"
        made.detail = "; ".join(filter(None, (f"not native: {reason}", made.detail)))
    return made


def make_candidate(
    choice: Candidate, model: SplitModel, settings: TrainingSettings, device: torch.device, *, most_samples: int
) -> Executor:
    """Return the executor that a choice names; arguments as in `make_executor`."""
    if choice.executor == "native":
        return NativeExecutor(model, settings, most_samples, share_wide=choice.share_wide)
    return (make_stacked if choice.executor == "stacked" else OneByOneExecutor)(model, settings, device)


class Described(Protocol):
    """Whatever trains: its name, and how."""

    name: str
    detail: str


def describe(executor: Described) -> str:
    """Return the executor's name, and its detail in brackets where it has one."""
    return f"{executor.name} ({executor.detail})" if executor.detail else executor.name


def choose(model: SplitModel, settings: TrainingSettings, device: torch.device) -> Candidate:
    """Return the executor and its chunk: what the settings name, or what fits the model and the device under `auto`.

    A function of these three and of the table that the settings name, never of a timing of its own, which would break
    the same bits at another number of ranks.

    Raises:
        ConfigError: The settings ask for what the device or the executor cannot do.
    """
    check_device(settings, device)
    if settings.executor == "native" and (reason := why_not(model)):
        raise ConfigError("training.executor", "native", f"cannot train this model ({reason}); use 'auto'")
    if settings.executor != "auto":
        return Candidate(executor=settings.executor, chunk_clients=settings.chunk_clients)

    def usable(name: str) -> bool:
        return _is_usable(name, model, settings, device)

    found = find_candidate(settings.table, lambda: key_of(model, settings, device), usable)
    return found or Candidate(executor=_rule(model, device, usable), chunk_clients=settings.chunk_clients)


def _rule(model: SplitModel, device: torch.device, usable: Callable[[str], bool]) -> str:
    """Return the executor of a model that no table knows."""
    if usable("native"):
        return "native"
    return "stacked" if device.type == "cuda" or not is_heavy(model) else "one-by-one"


def _is_usable(name: str, model: SplitModel, settings: TrainingSettings, device: torch.device) -> bool:
    if name == "native":
        return device.type != "cuda" and settings.precision == "float32" and why_not(model) is None
    return name == "stacked" or not settings.cuda_graphs


def check_device(settings: TrainingSettings, device: torch.device) -> None:
    """Raise ConfigError where the settings ask for what this device cannot do."""
    if device.type != "cuda" and settings.precision == "tf32":
        raise ConfigError("training.precision", "tf32", f"needs CUDA, and this rank computes on {device}; use float32")
    if device.type != "cuda" and settings.cuda_graphs:
        raise ConfigError("training.cuda_graphs", True, f"needs CUDA, and this rank computes on {device}; use false")
    if settings.cuda_graphs and settings.executor not in ("auto", "stacked"):
        raise ConfigError("training.cuda_graphs", True, "works in executor 'stacked' only; use that, or false")
    if settings.executor == "native" and settings.precision != "float32":
        raise ConfigError("training.precision", settings.precision, "is torch's; executor 'native' computes in float32")
    if settings.executor == "native" and device.type == "cuda":
        raise ConfigError("training.executor", "native", "computes on the CPU only; use 'stacked' on a GPU")


def train_group(
    executor: Executor, start: Tensor, data: LocalData, *, chunk: int, seed: int, round: int
) -> FirstUpdates:
    """Return the first model updates of a whole group on the device of `start`, in chunks if need be."""
    if executor.whole_groups:
        return executor.train(start, data, seed=seed, round=round)
    pieces, edges = Stager(start.device).chunks(data, chunk), range(0, len(data.clients), chunk)
    starts = (rows_of(start, first, first + chunk) for first in edges)
    trained = (executor.train(*each, seed=seed, round=round) for each in zip(starts, pieces, strict=True))
    return gather(trained, len(data.clients))


def is_heavy(model: SplitModel) -> bool:
    """Return whether any part of the model is better not stacked on a CPU."""
    halves = (model.client_half, model.server_half, model.tail)
    return any(isinstance(module, HEAVY) for half in halves for module in half.modules())
