"""Local training of one group whose clients share a server half, and what its aggregator learns from it.

Together: in step t of an epoch every client that has a t-th batch takes part. Each client's own parts step by the
gradient of its own mean loss, so no client's rate depends on the size of its group; the server half steps by the mean
over all samples of the step. In turn: the server half goes from client to client, in a keyed random order, and every
turn begins with an optimiser at rest. Client parts and server half are clipped each by its own norm: nobody sees both.

A client's first update has its own parts' displacement and, as server part, its evidence: in turn the displacement of
its turn; together, its part in the server's steps over its data share, so that for plain SGD the weighted sum of the
evidence is what the server half moved by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel
from hpcfsl.seeding import Purpose, random_words
from hpcfsl.training.executors import UNKNOWN, check_device, is_heavy
from hpcfsl.training.optimisers import server_rate
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared.combine import Mean
from hpcfsl.training.shared.compiled import CompiledPass, why_not_compiled
from hpcfsl.training.shared.halves import ServerHalf, join, own_layout
from hpcfsl.training.shared.loop import LoopPass
from hpcfsl.training.shared.replay import Replayed, replay
from hpcfsl.training.shared.session import Conditions, Session
from hpcfsl.training.shared.stacked import StackedPass
from hpcfsl.training.shared.step import Pass, Received, Send, Step, Takers, joined
from hpcfsl.training.stacked.chunk import Chunk
from hpcfsl.training.stacked.graph import UnstackableError
from hpcfsl.training.stacked.stack import Stack
from hpcfsl.training.updates import FirstUpdates, LocalData, empty_updates, first_updates


class SharedTrainer:
    """Trains groups with one server half each, and undoes what excluded clients did to it.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.
        passes: Forward and backward pass of a step.
        in_turn: Whether clients train one after the other.
    """

    def __init__(
        self, model: SplitModel, settings: TrainingSettings, device: torch.device, passes: Pass, *, in_turn: bool
    ) -> None:
        self.name = passes.name
        self.detail = "; ".join(filter(None, ("clients in turn" if in_turn else "clients together", passes.detail)))
        self.chunk_clients, self.in_turn = settings.chunk_clients, in_turn
        self._model, self._settings, self._device, self._passes = model, settings, device, passes
        self._own = Stack(own_layout(model.layout), settings, device)
        self._half = ServerHalf(model.layout, settings, device)

    def train(
        self, start: Tensor, data: LocalData, *, seed: int, round: int, conditions: Conditions | None = None
    ) -> tuple[FirstUpdates, Session]:
        """Return a group's first model updates, and what the server knows of the round.

        Args:
            start: Weights, float32 [params], or [clients, params] with the same server half in each row.
            data: The group's samples.
            seed: The run's seed.
            round: The round.
            conditions: Who lies, who is screened, what is recorded.
        """
        data = _on(data, self._device)
        work = _Work(self._model, self._settings, start, data, conditions or Conditions(), seed=seed, round=round)
        work.used = self._screen(work)
        self._half.begin(work.server_start)
        if self.in_turn:
            for row in turn_order(data.clients, seed=seed, round=round):
                self._take_turn(work, int(row))
        else:
            self._train_together(work)
        return work.first_updates(), work.session(self._half.flat() - work.server_start, in_turn=self.in_turn)

    def replay(self, session: Session, scales: NDArray[np.float64]) -> Replayed:
        """Return what the server half is moved by without excluded clients, whose `scales` [clients] are NaN."""
        return replay(self._passes, self._half, session, scales, chunk=self.chunk_clients, device=self._device)

    def _train_together(self, work: _Work) -> None:
        order = np.argsort(-work.data.counts, kind="stable")
        chunk = work.chunk(order)
        self._own.begin(work.own_start(order), len(order))
        for epoch in range(self._settings.local_epochs):
            steps = work.steps(chunk, order, epoch)
            work.add_losses(epoch, order, chunk.mean_losses([self._step_together(work, step) for step in steps]))
        work.own_updates[:] = self._own.updates(order)

    def _step_together(self, work: _Work, step: Step) -> Tensor:
        """Take one step of all its clients; return the loss of each before it."""
        parts, counted = work.parts_of(step)
        mean, active = Mean(len(work.server_start), self._device), len(step.takers)
        losses, own, received = [], list[list[Tensor]](), list[Received]()
        for first in range(0, active, self.chunk_clients):
            some = step.part(first, first + self.chunk_clients)
            last = first + len(some.takers)
            weights = [leaf[first:last] for leaf in self._own.leaves(active)]
            found = self._passes.run([*weights, *self._half.expand(last - first)], some)
            gradients = join(found.gradients[len(weights) :])
            mean.add(gradients, (parts * counted)[first:last])
            work.add_evidence(some.takers.rows, gradients, parts[first:last])
            received.append(found.received)
            losses.append(found.losses)
            own.append(list(found.gradients[: len(weights)]))
        self._own.optimiser.step([torch.cat(pieces) for pieces in zip(*own, strict=True)], active)
        if counted.any():
            self._half.step(mean.total)
        work.record(step.takers, received)
        return torch.cat(losses)

    def _take_turn(self, work: _Work, row: int) -> None:
        """Train one client and the server half; a turn whose client is screened, or that diverges, leaves no trace."""
        order, before = np.array([row]), self._half.flat()
        chunk = work.chunk(order)
        self._half.begin(before)
        self._own.begin(work.own_start(order), 1)
        for epoch in range(self._settings.local_epochs):
            steps = work.steps(chunk, order, epoch)
            work.add_losses(epoch, order, chunk.mean_losses([self._step_alone(work, step) for step in steps]))
        after = self._half.flat()
        work.own_updates[row] = self._own.updates(np.array([0]))[0]
        work.evidence[row] = after - before
        if not (work.used[row] and bool(torch.isfinite(after).all())):
            self._half.begin(before)

    def _step_alone(self, work: _Work, step: Step) -> Tensor:
        own = self._own.leaves(1)
        found = self._passes.run([*own, *self._half.expand(1)], step)
        self._own.optimiser.step(found.gradients[: len(own)], 1)
        self._half.step(join(found.gradients[len(own) :])[0])
        work.record(step.takers, [found.received])
        return found.losses

    def _screen(self, work: _Work) -> NDArray[np.bool_]:
        """Return whose smashed data the server half is trained on, judged by all of them, before its first step."""
        screen, data = work.conditions.screen, work.data
        if screen is None:
            return np.ones(len(data.clients), np.bool_)
        sent = []
        for row, (first, count) in enumerate(zip(data.starts.tolist(), data.counts.tolist(), strict=True)):
            start = work.start if work.start.ndim == 1 else work.start[row]
            weights = list(self._model.layout.unflatten(start[None]).values())
            sent.append(self._passes.smash(weights, data.inputs[first : first + count], work.sender(row, 0)))
        return screen(torch.cat(sent), data.counts, None if self._model.has_tail else data.targets)


class _Work:
    """One group's round: what goes in, and what has come out so far."""

    def __init__(
        self,
        model: SplitModel,
        settings: TrainingSettings,
        start: Tensor,
        data: LocalData,
        conditions: Conditions,
        *,
        seed: int,
        round: int,
    ) -> None:
        self.start, self.data, self.conditions, self._settings = start, data, conditions, settings
        self._seed, self._round = seed, round
        count, cut = len(data.clients), model.layout.client_size
        self._cut, self._shares = cut, data.counts / data.counts.sum()
        self.server_start = (start if start.ndim == 1 else start[0])[cut:].clone()
        self.used = np.ones(count, np.bool_)
        self._updates = _empty(count, model.layout.size, start.device)
        self.own_updates, self.evidence = self._updates[:, :cut], self._updates[:, cut:]
        self.evidence.zero_()
        self._losses = np.zeros((settings.local_epochs, count))
        self._received: list[Received] = []

    def own_start(self, rows: NDArray[np.int64]) -> Tensor:
        """Return what clients' own parts start from, [own params] or [clients, own params]."""
        return self.start[: self._cut] if self.start.ndim == 1 else self.start[torch.from_numpy(rows), : self._cut]

    def chunk(self, order: NDArray[np.int64]) -> Chunk:
        """Return the steps of some clients together, the ones with the most samples first."""
        size, device = self._settings.batch_size, self.start.device
        return Chunk(self.data, order, size, seed=self._seed, round=self._round, device=device)

    def steps(self, chunk: Chunk, order: NDArray[np.int64], epoch: int) -> Iterator[Step]:
        """Yield the steps of an epoch."""
        counts, size = self.data.counts[order], self._settings.batch_size
        for number, batch in enumerate(chunk.batches(epoch, ())):
            rows = order[: batch.active]
            numbers = epoch * -(-counts[: batch.active] // size) + number
            senders = {
                place: send
                for place, row in enumerate(rows.tolist())
                if (send := self.sender(row, int(numbers[place]))) is not None
            }
            takers = Takers(
                rows=rows,
                clients=self.data.clients[rows],
                numbers=numbers,
                sizes=np.minimum(counts[: batch.active] - number * size, batch.width),
                width=batch.width,
                seed=self._seed,
                round=self._round,
            )
            yield Step(takers=takers, inputs=batch.inputs, targets=batch.targets, senders=senders)

    def sender(self, row: int, number: int) -> Send | None:
        """Return what a client sends in the place of its smashed data in a local step; None where it sends them."""
        liars, poison = self.conditions.liars, self.conditions.poison
        if liars is None or poison is None or not liars[row]:
            return None
        return partial(poison, int(self.data.clients[row]), number)

    def parts_of(self, step: Step) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return each client's part in the server's mean over a step's samples, and whether it counts, [active]."""
        sizes, counted = step.takers.sizes, self.used[step.takers.rows]
        total = sizes[counted].sum() or sizes.sum()
        return sizes / total, counted

    def add_evidence(self, rows: NDArray[np.int64], gradients: Tensor, parts: NDArray[np.float64]) -> None:
        """Add clients' parts in one step of the server half, over their data shares."""
        rate = server_rate(self._settings)
        for row, gradient, factor in zip(rows, gradients, -rate * parts / self._shares[rows], strict=True):
            self.evidence[row].add_(gradient, alpha=float(factor))

    def record(self, takers: Takers, chunks: list[Received]) -> None:
        """Remember what the server received in one step from clients that it trains on, where that is wanted."""
        if not self.conditions.records:
            return
        counted = self.used[takers.rows]
        if counted.any():
            self._received.append(joined(takers, chunks).choose(counted))

    def add_losses(self, epoch: int, rows: NDArray[np.int64], losses: NDArray[np.float64]) -> None:
        """Note clients' mean losses over an epoch."""
        self._losses[epoch, rows] = losses

    def first_updates(self) -> FirstUpdates:
        """Return the first model updates."""
        return first_updates(self.data, self._updates, self._losses[0], self._losses[-1], self._settings)

    def session(self, displacement: Tensor, *, in_turn: bool) -> Session:
        """Return what the server knows of the round."""
        return Session(
            clients=self.data.clients,
            samples=self.data.counts,
            used=self.used,
            in_turn=in_turn,
            start=self.server_start,
            displacement=displacement,
            received=tuple(self._received),
        )


def turn_order(clients: NDArray[np.int64], *, seed: int, round: int) -> NDArray[np.int64]:
    """Return the rows of a group's clients in the order of their turns, a function of their ids, seed and round."""
    words = random_words(seed, Purpose.TURNS, round=round, entity=clients, count=2)
    return np.argsort((words[:, 0] << 31) ^ words[:, 1], kind="stable")


def make_shared(
    model: SplitModel,
    settings: TrainingSettings,
    device: torch.device,
    *,
    in_turn: bool,
    most_samples: int = UNKNOWN,
) -> SharedTrainer:
    """Return the trainer of a run whose groups share their server halves.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.
        in_turn: Whether clients train one after the other.
        most_samples: Training samples of the population's largest client, where that is known.

    Raises:
        ConfigError: The settings ask for what the device cannot do, or for an executor that this protocol cannot use.
        MemoryError: There is not enough memory.
    """
    check_device(settings, device)
    if settings.executor == "stacked" and in_turn:
        fix = "trains clients together; this protocol has them train in turn: use 'auto'"
        raise ConfigError("training.executor", "stacked", fix)
    if settings.cuda_graphs:
        raise ConfigError("training.cuda_graphs", True, "cannot record steps of a shared server half; use false")
    passes = _choose(model, settings, device, in_turn=in_turn, most_samples=most_samples)
    return SharedTrainer(model, settings, device, passes, in_turn=in_turn)


def _choose(
    model: SplitModel, settings: TrainingSettings, device: torch.device, *, in_turn: bool, most_samples: int
) -> Pass:
    """Return what the settings name, or what fits the model and the device under `auto`; never by a timing."""
    reason = why_not_compiled(model)
    if settings.executor == "native" and reason:
        raise ConfigError("training.executor", "native", f"cannot train this model ({reason}); use 'auto'")
    compiles = device.type != "cuda" and settings.precision == "float32" and not reason
    if settings.executor == "native" or (settings.executor == "auto" and compiles):
        return CompiledPass(model, settings, most_samples)
    if in_turn or settings.executor == "one-by-one":
        return LoopPass(model, settings, device)
    if settings.executor == "auto" and device.type != "cuda" and is_heavy(model):
        return LoopPass(model, settings, device, detail="not stacked: faster so on a CPU")
    try:
        return StackedPass(model, settings, device)
    except UnstackableError as error:
        return LoopPass(model, settings, device, detail=f"not stacked: {error}")


def _on(data: LocalData, device: torch.device) -> LocalData:
    return replace(data, inputs=data.inputs.to(device), targets=data.targets.to(device))


def _empty(count: int, size: int, device: torch.device) -> Tensor:
    return empty_updates(count, size) if device.type == "cpu" else torch.empty(count, size, device=device)
