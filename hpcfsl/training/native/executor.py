"""The executor that trains clients in compiled kernels on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.split import SplitModel
from hpcfsl.native.library import instruction_set, library
from hpcfsl.training.batches import epoch_orders
from hpcfsl.training.native.binding import NativeEngine, descent_of
from hpcfsl.training.native.layers import Plan, UnknownLayerError
from hpcfsl.training.native.program import Program, compile_program
from hpcfsl.training.optimisers import server_rate
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData, empty_updates, first_updates, rows_of


def why_not(model: SplitModel) -> str | None:
    """Return why the engine cannot train a model, or None where it can."""
    if library() is None:
        return "the package was installed without a C++ compiler"
    try:
        compile_program(model, Plan(batch=1, seen=1, rate=0.0, server_rate=0.0))
    except UnknownLayerError as error:
        return str(error)
    return None


class NativeExecutor:
    """Trains each client from its first step to its last within the core's cache; a thread has an engine of its own.

    A client's update has the same bits whoever trains beside it and on however many threads.

    Args:
        model: A model for which `why_not` is None.
        settings: Local training.
        most_samples: Training samples of the largest client of the population.
        share_wide: Whether wide layers under plain descent keep samples instead of weights, which clients with starts
            or drifts of their own cannot.
    """

    name = "native"
    whole_groups = True

    def __init__(
        self, model: SplitModel, settings: TrainingSettings, most_samples: int, *, share_wide: bool = True
    ) -> None:
        self._settings, self._size, self._most_samples = settings, model.layout.size, most_samples
        self._sample_shape = tuple(model.trial.shape[1:])
        self.chunk_clients = settings.chunk_clients
        shares = share_wide and _is_plain(settings)
        self.plan = Plan(
            batch=min(settings.batch_size, most_samples),
            seen=most_samples * settings.local_epochs,
            rate=settings.learning_rate if shares else 0.0,
            server_rate=server_rate(settings) if shares else 0.0,
            loss=settings.loss,
        )
        self.program = compile_program(model, self.plan)
        shared = ", wide layers shared" if self.shares else ""
        self.detail = f"{instruction_set()}{shared}"
        self._engines = [NativeEngine(self.program.words)]

    @property
    def shares(self) -> bool:
        """Whether some layer keeps samples instead of weights."""
        return "shared-linear" in self.program.layers

    def train(self, start: Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return the first model updates of the clients, in order."""
        count = len(data.clients)
        threads = min(torch.get_num_threads(), count)
        while len(self._engines) < threads:
            self._engines.append(NativeEngine(self.program.words))
        updates, edges = empty_updates(count, self._size), [count * i // threads for i in range(threads + 1)]

        def run(thread: int) -> NDArray[np.float64]:
            first, last = edges[thread], edges[thread + 1]
            part, into = data.chunk(first, last), updates[first:last]
            return self.train_with(
                self._engines[thread], rows_of(start, first, last), part, into, seed=seed, round=round
            )

        if threads == 1:
            losses = run(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                losses = np.concatenate(list(pool.map(run, range(threads))), axis=1)
        return first_updates(data, updates, losses[0], losses[-1], self._settings)

    def train_with(
        self, engine: NativeEngine, start: Tensor, data: LocalData, updates: Tensor, *, seed: int, round: int
    ) -> NDArray[np.float64]:
        """Train clients on one engine; write `updates`, [clients, params], and return losses [epochs, clients]."""
        self._check(start, data)
        losses = np.zeros((self._settings.local_epochs, len(data.clients)))
        arrays = {
            "start": start.contiguous().numpy(),
            self.program.inputs: data.inputs.contiguous().numpy(),
            self.program.targets: data.targets.contiguous().numpy(),
            "orders": _orders(data, self._settings, seed=seed, round=round),
            "counts": np.ascontiguousarray(data.counts, np.int64),
            "clients": np.ascontiguousarray(data.clients, np.int64),
            "updates": updates.numpy(),
            "losses": losses,
        }
        if data.drift is not None:
            arrays["drift"] = data.drift.contiguous().numpy()
        engine.train(arrays, batch=self.plan.batch, seed=seed, round=round, descent=descent_of(self._settings))
        return losses

    def _check(self, start: Tensor, data: LocalData) -> None:
        """The engine reads by index: nothing outside its tables may reach it."""
        program, inputs, targets = self.program, data.inputs, data.targets
        of_inputs = torch.int64 if program.tokens else torch.float32
        of_targets = torch.int64 if program.classes else torch.float32
        assert (start.dtype, inputs.dtype, targets.dtype) == (torch.float32, of_inputs, of_targets)
        assert start.ndim == 2 or start.shape == (self._size,)
        own = [each for each in (start if start.ndim == 2 else None, data.drift) if each is not None]
        assert all(each.shape == (len(data.clients), self._size) for each in own)
        assert all(each.dtype == torch.float32 for each in own)
        assert not (own and self.shares), "wide layers are shared by clients that start alike"
        assert inputs.shape == (int(data.counts.sum()), *self._sample_shape)
        assert targets.numel() == len(inputs) * program.outputs
        assert 0 < int(data.counts.min()) <= int(data.counts.max()) <= self._most_samples
        check_samples(program, inputs, targets)


def check_samples(program: Program, inputs: Tensor, targets: Tensor) -> None:
    """Raise ValueError where tokens or targets lie outside the tables that the engine reads by them."""
    if program.classes and (int(targets.min()) < 0 or int(targets.max()) >= program.classes):
        raise ValueError(f"targets must be 0 .. {program.classes - 1}")
    if program.tokens and (int(inputs.min()) < 0 or int(inputs.max()) >= program.tokens):
        raise ValueError(f"tokens must be 0 .. {program.tokens - 1}")


def _is_plain(settings: TrainingSettings) -> bool:
    """Return whether a local step is the weights less the rate times the gradient, and nothing else."""
    more = settings.momentum or settings.weight_decay or settings.proximal or settings.clip_norm
    return settings.optimizer == "sgd" and not more


def _orders(data: LocalData, settings: TrainingSettings, *, seed: int, round: int) -> NDArray[np.int64]:
    """Return the rows of `data` in the order of each local epoch, int64 [epochs, clients, longest]."""
    orders = [
        epoch_orders(data.counts, seed=seed, round=round, clients=data.clients, epoch=epoch)
        for epoch in range(settings.local_epochs)
    ]
    return np.ascontiguousarray(np.stack(orders) + data.starts[:, None])
