"""Chains of layers for the compiled engine, with data, references and instruction sets to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from support.zoo import zoo_reference
from torch import Tensor, nn

from hpcfsl.models.split import SplitModel, split
from hpcfsl.native.library import instruction_set, use_instruction_set
from hpcfsl.training.native.binding import NativeEngine
from hpcfsl.training.native.executor import NativeExecutor
from hpcfsl.training.native.program import compile_program
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData

INSTRUCTION_SETS = ("base", "avx2", "avx512")
RAGGED, CLIENTS = (4, 1, 7), (2, 3, 11)
CLASSES, SYMBOLS = 3, 6
Layers = Callable[[], list[nn.Module]]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A model in a row, and what its samples are.

    Attributes:
        layers: Makes all layers but those that `head` adds.
        shape: Shape of a sample.
        head: "flat": flatten and one linear layer; "each": a linear layer at every position; "none": nothing.
        classes: Classes of an output.
        symbols: Whether samples are symbols.
    """

    layers: Layers
    shape: tuple[int, ...]
    head: str = "flat"
    classes: int = CLASSES
    symbols: bool = False

    def model(self) -> SplitModel:
        """Return the model, not cut."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = self.layers()
            before = nn.Sequential(*layers).eval()(self._trial())
            if self.head == "flat":
                layers += [nn.Flatten(), nn.Linear(before[0].numel(), self.classes)]
            elif self.head == "each":
                layers += [nn.Linear(before.shape[-1], self.classes)]
        return split(
            nn.Sequential(*layers),
            "none",
            self.shape,
            target_shape=self._positions,
            vocabulary=SYMBOLS if self.symbols else 0,
        )

    def data(self, counts: tuple[int, ...] = RAGGED, clients: tuple[int, ...] = CLIENTS) -> LocalData:
        """Return samples of some clients."""
        rng, total = np.random.default_rng(1), sum(counts)
        numbers = rng.normal(size=(total, *self.shape)).astype(np.float32)
        symbols = rng.integers(0, SYMBOLS, (total, *self.shape))
        return LocalData(
            clients=np.array(clients),
            counts=np.array(counts),
            inputs=torch.from_numpy(symbols if self.symbols else numbers),
            targets=torch.from_numpy(rng.integers(0, self.classes, (total, *self._positions))),
        )

    @property
    def _positions(self) -> tuple[int, ...]:
        return self.shape[:1] if self.head == "each" else ()

    def _trial(self) -> Tensor:
        return torch.zeros(1, *self.shape, dtype=torch.int64 if self.symbols else torch.float32)


def flat(shape: tuple[int, ...], *kinds: Callable[[], nn.Module]) -> Chain:
    """Return a chain of layers with one row of classes at its end."""
    return Chain(layers=lambda: [kind() for kind in kinds], shape=shape)


def text(positions: int, width: int, *kinds: Callable[[], nn.Module], head: str = "each") -> Chain:
    """Return a chain over symbols, which an embedding of `width` begins."""
    layers: Layers = lambda: [nn.Embedding(SYMBOLS, width), *(kind() for kind in kinds)]  # noqa: E731
    return Chain(layers=layers, shape=(positions,), head=head, symbols=True)


def reference(model: SplitModel, data: LocalData, settings: TrainingSettings) -> NDArray[np.float32]:
    """Return the updates of the slow reference, [clients, params]."""
    return zoo_reference(model, data, settings, seed=5, round=2).numpy()


def make_native(
    model: SplitModel, settings: TrainingSettings, most_samples: int, *, share_from: int | None = None
) -> NativeExecutor:
    """Return the executor; with `share_from`, fully connected layers of so many weights are shared."""
    executor = NativeExecutor(model, settings, most_samples)
    if share_from is not None:
        executor.plan = replace(executor.plan, share_from=share_from)
        executor.program = compile_program(model, executor.plan)
        executor._engines = [NativeEngine(executor.program.words)]
    return executor


def train_natively(
    model: SplitModel, data: LocalData, settings: TrainingSettings, *, share_from: int | None = None, round: int = 2
) -> FirstUpdates:
    """Return what the compiled engine makes of it."""
    executor = make_native(model, settings, int(data.counts.max()), share_from=share_from)
    return executor.train(model.initial_weights(1), data, seed=5, round=round)


def assert_close(model: SplitModel, updates: Tensor, wanted: NDArray[np.float32]) -> None:
    """Check updates, [clients, params], to float tolerance: against the largest number of each parameter."""
    found, largest = updates.numpy(), np.abs(wanted).max(axis=1)[:, None]
    for name, where in model.layout.slices.items():
        # What is 0 but for rounding, as a bias before a norm, is measured against the rest.
        noise = 1e-4 * np.abs(wanted[:, where]).max(axis=1)[:, None] + 2e-6 * largest + 1e-7
        off = np.abs(found[:, where] - wanted[:, where])
        assert not (off > noise).any(), (
            f"{name} is off by up to {np.nanmax(off)}: {found[:, where]}, {wanted[:, where]}"
        )
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))


@contextmanager
def using(name: str) -> Iterator[None]:
    """Use the kernels of one instruction set for a while.

    Raises:
        ValueError: This processor cannot run them.
    """
    best = instruction_set()
    use_instruction_set(name)
    try:
        yield
    finally:
        use_instruction_set(best)


def runnable() -> list[str]:
    """Return the instruction sets that this processor can run."""
    found = []
    for name in INSTRUCTION_SETS:
        try:
            with using(name):
                found.append(name)
        except ValueError:
            continue
    return found
