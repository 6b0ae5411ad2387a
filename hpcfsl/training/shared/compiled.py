"""A step of one client after the other in compiled kernels. Choose it on a CPU, for models that the engine can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.split import SplitModel
from hpcfsl.native.library import instruction_set
from hpcfsl.training.native.binding import NativeEngine
from hpcfsl.training.native.executor import check_samples, why_not
from hpcfsl.training.native.layers import Plan
from hpcfsl.training.native.program import Program, compile_program
from hpcfsl.training.settings import LossName, TrainingSettings
from hpcfsl.training.shared.halves import own_layout
from hpcfsl.training.shared.loop import LoopPass
from hpcfsl.training.shared.step import Found, Received, Send, Step, Takers

Arrays = dict[str, NDArray[Any]]


def why_not_compiled(model: SplitModel) -> str | None:
    """Return why the engine cannot train a shared server half of a model, or None where it can."""
    return why_not(model) or (None if _compile(model, 1, "auto").cuttable else "its server half cannot be run alone")


class CompiledPass:
    """Runs the clients of a step in compiled kernels; see `step.Pass`. A client has the same bits on any thread.

    Args:
        model: A model for which `why_not_compiled` is None.
        settings: Of local training.
        most_samples: Training samples of the largest client of the population.
    """

    name = "native"

    def __init__(self, model: SplitModel, settings: TrainingSettings, most_samples: int) -> None:
        self.detail, self._model, self._layout = instruction_set(), model, model.layout
        self._program = _compile(model, min(settings.batch_size, most_samples), settings.loss)
        self._own_params = own_layout(model.layout).size
        self._num_own = sum(not name.startswith("server.") for name in model.layout.names)
        self._engines = [NativeEngine(self._program.words)]
        self._pool: ThreadPoolExecutor | None = None
        self._loop = LoopPass(model, settings, torch.device("cpu"))

    def run(self, weights: Sequence[Tensor], step: Step) -> Found:
        """Return what a step gives."""
        takers, model = step.takers, self._model
        check_samples(self._program, step.inputs, step.targets)
        arrays = self._own_arrays(weights[: self._num_own], step) | self._server_arrays(weights[self._num_own :])
        arrays |= {
            "smashed": _room(takers, model.smashed_shape),
            self._program.targets: step.targets.contiguous().numpy(),
        }
        if step.senders:
            arrays["lies"] = self._lie(step, arrays)
        arrays |= {"gradients": _rows(takers, self._layout.size), "losses": np.zeros(len(takers))}
        if model.has_tail:
            arrays["answers"] = _room(takers, model.returned_shape)
        self._step(takers, arrays)
        answers = torch.from_numpy(arrays["answers"]) if model.has_tail else step.targets
        return Found(
            losses=torch.from_numpy(arrays["losses"]).float(),
            gradients=self._by_parameter(arrays["gradients"]),
            received=Received(takers=takers, smashed=torch.from_numpy(arrays["smashed"]), answers=answers),
        )

    def run_server(self, weights: Sequence[Tensor], received: Received) -> list[Tensor]:
        """Return the gradients of the server half alone."""
        takers = received.takers
        arrays = self._server_arrays(weights) | {
            "smashed": received.smashed.contiguous().numpy(),
            "answers" if self._model.has_tail else self._program.targets: received.answers.contiguous().numpy(),
            "gradients": _rows(takers, self._layout.size),
            "losses": np.zeros(len(takers)),
        }
        self._step(takers, arrays, server_alone=1)
        return self._by_parameter(arrays["gradients"])[self._num_own :]

    def smash(self, weights: Sequence[Tensor], inputs: Tensor, send: Send | None) -> Tensor:
        """Return the smashed data of one client as the server sees them: all its samples at once, so in torch."""
        return self._loop.smash(weights, inputs, send)

    def _lie(self, step: Step, arrays: Arrays) -> NDArray[np.int64]:
        """Put what liars send into `smashed`; return who they are, int64 [active]."""
        lies, width = np.zeros(len(step.takers), np.int64), step.takers.width
        own = {name: arrays[name] for name in ("own", "server", "smashed", self._program.inputs)}
        self._step(step.takers, own, smash_alone=1)
        for place, send in step.senders.items():
            samples = slice(place * width, place * width + int(step.takers.sizes[place]))
            sent = send(torch.from_numpy(arrays["smashed"][samples].copy()))
            arrays["smashed"][samples] = sent.to(torch.float32).numpy()
            lies[place] = 1
        return lies

    def _own_arrays(self, weights: Sequence[Tensor], step: Step) -> Arrays:
        """Return what the clients' parts start from, [clients, own params], and the samples."""
        own = torch.cat([weight.detach().reshape(len(step.takers), -1) for weight in weights], dim=1)
        return {"own": own.numpy(), self._program.inputs: step.inputs.contiguous().numpy()}

    def _server_arrays(self, weights: Sequence[Tensor]) -> Arrays:
        """Return the server half, which all clients have in common, [server params]."""
        return {"server": torch.cat([weight[0].detach().flatten() for weight in weights]).numpy()}

    def _by_parameter(self, rows: NDArray[np.float32]) -> list[Tensor]:
        found = torch.from_numpy(rows)
        named = zip(self._layout.slices.values(), self._layout.shapes, strict=True)
        return [found[:, where].view(len(found), *shape) for where, shape in named]

    def _step(self, takers: Takers, arrays: Arrays, **more: int) -> None:
        """Have the engine take a step; each thread takes some of the clients."""
        count = len(takers)
        threads = min(torch.get_num_threads(), count)
        while len(self._engines) < threads:
            self._engines.append(NativeEngine(self._program.words))
        who = {"sizes": takers.sizes, "places": takers.numbers, "clients": takers.clients}
        arrays |= {name: np.ascontiguousarray(array) for name, array in who.items()}
        numbers = {"width": takers.width, "own_params": self._own_params, "seed": takers.seed, "round": takers.round}

        def run(thread: int) -> None:
            first, last = count * thread // threads, count * (thread + 1) // threads
            some = {name: _part(name, array, first, last, takers) for name, array in arrays.items()}
            self._engines[thread].step(some, num_clients=last - first, **numbers, **_FLAGS | more)

        self._on_threads(run, threads)

    def _on_threads(self, run: Callable[[int], None], threads: int) -> None:
        if threads == 1:
            run(0)
            return
        if self._pool is None:  # kept: to start threads takes as long as a step of a small model
            self._pool = ThreadPoolExecutor(threads)
        list(self._pool.map(run, range(threads)))


_FLAGS = {"smash_alone": 0, "server_alone": 0}
_BY_SAMPLE = ("inputs", "tokens", "classes", "numbers", "smashed", "answers")


def _part(name: str, array: NDArray[Any], first: int, last: int, takers: Takers) -> NDArray[Any]:
    """Return what an array says of the clients in positions `first` to `last`."""
    if name == "server":
        return array
    scale = takers.width if name in _BY_SAMPLE else 1
    return array[first * scale : last * scale]


def _compile(model: SplitModel, batch: int, loss: LossName) -> Program:
    """Return the program of a model whose layers all keep their weights."""
    return compile_program(model, Plan(batch=batch, seen=batch, rate=0.0, server_rate=0.0, loss=loss))


def _room(takers: Takers, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return room for activations of all samples, [active * width, *shape]; where no sample is, zeros remain."""
    return np.zeros((len(takers) * takers.width, *shape), np.float32)


def _rows(takers: Takers, size: int) -> NDArray[np.float32]:
    return np.zeros((len(takers), size), np.float32)
