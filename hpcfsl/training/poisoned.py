"""Local training where some clients poison the smashed data that they send, and each has a server copy of its own.

An attacker's poison lies on the wire, before any compression. Forward it takes the place of the smashed data; backward
the attacker passes the cut gradient of what it sent on to its own half. Attackers are trained one after another on a
model with that link, everybody else by the run's own executor, so an honest client's update is what it always was.
Where clients share a server half there are no copies, and this has no part: `poison_smashed` is called there each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.link import Link
from hpcfsl.models.split import SplitModel
from hpcfsl.threats import Threat
from hpcfsl.training.executors import Executor
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData, gather, rows_of


class PoisonedExecutor:
    """Trains honest clients with one executor, and attackers as `hpcfsl.training.poisoned` says.

    Args:
        honest: The run's executor.
        model: The model.
        settings: Local training.
        device: Where to train.
        threat: What attackers do.
        attacks: Says which of some clients attack in a round: ids, int64 [clients], and round to bool [clients].
    """

    def __init__(
        self,
        honest: Executor,
        model: SplitModel,
        settings: TrainingSettings,
        device: torch.device,
        *,
        threat: Threat,
        attacks: Callable[[NDArray[np.int64], int], NDArray[np.bool_]],
    ) -> None:
        self.name, self.whole_groups, self.chunk_clients = honest.name, honest.whole_groups, honest.chunk_clients
        self.detail = "; ".join(filter(None, (honest.detail, "attackers one by one")))
        self._honest, self._attacks = honest, attacks
        self._link = PoisonedLink(model.link, threat)
        self._poisoned = OneByOneExecutor(replace(model, link=self._link), settings, device)

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the chunk; `start` is float32 [params] or [clients, params]."""
        bad = self._attacks(data.clients, round)
        if not bad.any():
            return self._honest.train(start, data, seed=seed, round=round)
        parts = [self._train_attacker(start, data, int(row), seed=seed, round=round) for row in np.flatnonzero(bad)]
        if not bad.all():
            starts = start if start.ndim == 1 else start[torch.from_numpy(~bad)]
            parts.insert(0, self._honest.train(starts, _choose(data, ~bad), seed=seed, round=round))
        order = np.argsort(np.concatenate([np.flatnonzero(~bad), np.flatnonzero(bad)]))
        return _reorder(gather(parts, len(bad)), order)

    def _train_attacker(self, start: Tensor, data: LocalData, row: int, *, seed: int, round: int) -> FirstUpdates:
        self._link.begin(seed=seed, round=round, client=data.clients[row : row + 1])
        own = data.chunk(row, row + 1)
        return self._poisoned.train(rows_of(start, row, row + 1), own, seed=seed, round=round)


class PoisonedLink(Link):
    """A link on which one attacker's smashed data are poisoned, one local step a call.

    Args:
        wire: What lies between the halves otherwise.
        threat: What attackers do.
    """

    def __init__(self, wire: Link, threat: Threat) -> None:
        super().__init__()
        self._wire, self._threat = wire, threat
        self._key: dict[str, Any] = {}
        self._step = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> PoisonedLink:
        # An executor trains a copy of the model; the copy must hear whose step it is.
        return self

    def begin(self, *, seed: int, round: int, client: NDArray[np.int64]) -> None:
        """Begin the local steps of the attacker `client`, int64 [1]."""
        self._key, self._step = {"seed": seed, "round": round, "clients": client}, 0

    def forward(self, smashed: Tensor) -> Tensor:
        """Return what the server sees of the attacker's smashed data [samples, ...]."""
        sent = self._threat.poison_smashed(smashed.detach()[None], step=self._step, **self._key)[0]
        self._step += 1
        return cast(Tensor, self._wire(_Replaced.apply(smashed, sent)))


class _Replaced(torch.autograd.Function):
    """The second argument forward; its gradient as that of the first backward."""

    @staticmethod
    def forward(ctx: Any, smashed: Tensor, sent: Tensor) -> Tensor:
        return sent.to(smashed.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _choose(data: LocalData, chosen: NDArray[np.bool_]) -> LocalData:
    rows, clients = torch.from_numpy(np.repeat(chosen, data.counts)), torch.from_numpy(chosen)
    return LocalData(
        clients=data.clients[chosen],
        counts=data.counts[chosen],
        inputs=data.inputs[rows],
        targets=data.targets[rows],
        drift=None if data.drift is None else data.drift[clients],
    )


def _reorder(found: FirstUpdates, order: NDArray[np.int64]) -> FirstUpdates:
    return FirstUpdates(
        clients=found.clients[order],
        updates=found.updates[torch.from_numpy(order)],
        samples=found.samples[order],
        steps=found.steps[order],
        loss_first=found.loss_first[order],
        loss_last=found.loss_last[order],
    )
