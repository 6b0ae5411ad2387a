"""The compiled engine against the slow reference, for every layer and setting it knows and every instruction set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.all_chains import make_chains
from support.chains import (
    INSTRUCTION_SETS,
    Chain,
    assert_close,
    flat,
    make_native,
    reference,
    text,
    train_natively,
    using,
)
from torch import Tensor, nn

from hpcfsl.models.recurrent import Gru
from hpcfsl.models.split import SplitModel
from hpcfsl.native.library import library
from hpcfsl.seeding import Purpose, random_words
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData

pytestmark = pytest.mark.skipif(library() is None, reason="the kernels were not built")

CHAINS = make_chains()
USUAL = TrainingSettings(batch_size=3, local_epochs=2, momentum=0.5, weight_decay=0.01)
# More clients than train in step where layers are shared; some are done long before others.
MANY = (5, 1, 8, 3, 2, 8, 7), (0, 1, 4, 9, 10, 11, 300)

OPTIMISERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "proximal": {"proximal": 2.0, "weight_decay": 0.1},
    "clipped": {"clip_norm": 0.3},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "all": {
        "optimizer": "adam",
        "learning_rate": 0.02,
        "adam_beta1": 0.8,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-3,
        "weight_decay": 0.1,
        "proximal": 0.5,
        "clip_norm": 1.0,
    },
}


def wide(width: int, *, bias: bool = True, seen: int = 64) -> Chain:
    return flat(
        (width,), lambda: nn.Linear(width, seen + 3, bias), nn.ReLU, lambda: nn.Linear(seen + 3, seen, bias), nn.Tanh
    )


# Chains whose fully connected layers are shared; wide enough for the samples that a client sees.
SHARED = {
    "lanes": wide(16),
    "odd": wide(21, bias=False),
    "blocks": wide(530),
    "after-images": flat(
        (2, 5, 5),
        lambda: nn.Conv2d(2, 5, 2),
        nn.ReLU,
        nn.Flatten,
        lambda: nn.Dropout(0.3),
        lambda: nn.Linear(80, 70),
        nn.ReLU,
    ),
}


@pytest.fixture(params=INSTRUCTION_SETS)
def instructions(request: pytest.FixtureRequest) -> Iterator[str]:
    try:
        with using(request.param):
            yield request.param
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")


@cache
def usual_reference(name: str) -> tuple[SplitModel, LocalData, NDArray[np.float32]]:
    model, data = CHAINS[name].model(), CHAINS[name].data()
    return model, data, reference(model, data, USUAL)


class TestAgainstTheReference:
    @pytest.mark.parametrize("name", CHAINS)
    def test_every_layer(self, name: str, instructions: str) -> None:
        model, data, wanted = usual_reference(name)
        assert np.abs(wanted).max() > 1e-4
        assert_close(model, train_natively(model, data, USUAL).updates, wanted)

    @pytest.mark.parametrize("batch_size", [1, 4, 100])
    @pytest.mark.parametrize("optimiser", OPTIMISERS)
    def test_every_optimiser(self, optimiser: str, batch_size: int, instructions: str) -> None:
        chain = flat((2, 7), lambda: nn.Conv1d(2, 5, 3), nn.ReLU)
        model, data = chain.model(), chain.data((5, 1, 3))
        settings = TrainingSettings(batch_size=batch_size, local_epochs=2, **OPTIMISERS[optimiser])
        assert_close(model, train_natively(model, data, settings).updates, reference(model, data, settings))

    @pytest.mark.parametrize("name", SHARED)
    def test_shared_layers(self, name: str, instructions: str) -> None:
        settings = TrainingSettings(batch_size=3, local_epochs=2)
        model, data = SHARED[name].model(), SHARED[name].data(*MANY)
        assert "shared-linear" in make_native(model, settings, 8, share_from=1).program.layers
        assert "shared-linear" not in make_native(model, settings, 8).program.layers
        found = train_natively(model, data, settings, share_from=1)
        dense = train_natively(model, data, settings)
        assert_close(model, found.updates, dense.updates.numpy())
        np.testing.assert_allclose(found.loss_first, dense.loss_first, rtol=1e-5)
        np.testing.assert_allclose(found.loss_last, dense.loss_last, rtol=1e-5)
        three = data.chunk(0, 3)
        assert_close(model, found.updates[:3], reference(model, three, settings))

    def test_what_a_layer_must_be_to_be_shared(self) -> None:
        model = SHARED["odd"].model()

        def kinds(most_samples: int, **settings: Any) -> list[str]:
            made = make_native(model, TrainingSettings(batch_size=1, **settings), most_samples, share_from=1)
            return [kind for kind in made.program.layers if "linear" in kind]

        assert kinds(3) == ["shared-linear", "shared-linear", "shared-linear"]
        assert kinds(4) == kinds(64) == ["shared-linear", "shared-linear", "linear"]
        assert kinds(66) == ["shared-linear", "linear", "linear"]
        assert kinds(40, local_epochs=2) == ["linear", "linear", "linear"]
        for other in ({"momentum": 0.1}, {"weight_decay": 0.1}, {"proximal": 0.1}, {"clip_norm": 1}):
            assert kinds(3, **other) == ["linear", "linear", "linear"]
        assert kinds(3, optimizer="adam") == ["linear", "linear", "linear"]


BITS = ["linear-17", "everything", "max-padded", "drop-around-flatten", "gru-9", "group-norm", "Tanh-Sigmoid"]


class TestBits:
    @pytest.mark.parametrize("name", [*BITS, *(f"shared {name}" for name in SHARED)])
    def test_a_client_is_the_same_in_any_company(self, name: str, instructions: str) -> None:
        shared = name.startswith("shared ")
        chain = SHARED[name.removeprefix("shared ")] if shared else CHAINS[name]
        model, data = chain.model(), chain.data(*MANY)
        settings = TrainingSettings(batch_size=3, local_epochs=2, momentum=0 if shared else 0.5)
        executor = make_native(model, settings, 9, share_from=1 if shared else None)

        def train(data: LocalData) -> Tensor:
            return executor.train(model.initial_weights(1), data, seed=5, round=2).updates

        together = train(data)
        assert float(together.abs().max()) > 0
        assert torch.equal(train(data), together)
        for row in range(len(data.clients)):
            assert torch.equal(train(data.chunk(row, row + 1))[0], together[row])
        assert torch.equal(train(data.chunk(2, 5)), together[2:5])
        assert torch.equal(train(backwards(data)).flip(0), together)
        with threads(2):
            assert torch.equal(train(data), together)
        with threads(3):
            assert torch.equal(train(data.chunk(0, 2)), together[:2])

    @pytest.mark.parametrize("name", ["parameters-late", "max-padded", "padding", "Tanh-Sigmoid", "gru-9", "drop"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
    def test_what_is_not_finite_stays_with_its_client(self, name: str, bad: float, instructions: str) -> None:
        chain = CHAINS[name] if name != "gru-9" else CHAINS["gru-of-numbers"]
        model, data = chain.model(), chain.data()
        settings = TrainingSettings(batch_size=3, local_epochs=2, momentum=0.5)
        executor = make_native(model, settings, 7)
        start = model.initial_weights(1)
        wanted = executor.train(start, data, seed=5, round=2).updates
        data.inputs[1].view(-1)[::2] = bad
        for _ in range(2):
            found = executor.train(start, data, seed=5, round=2).updates
            assert torch.equal(found[1:], wanted[1:])
            assert not torch.equal(found[0], wanted[0])
        if np.isnan(bad):
            np.testing.assert_array_equal(np.isnan(found.numpy()), np.isnan(reference(model, data, settings)))

    def test_shared_layers_keep_what_is_not_finite_apart(self, instructions: str) -> None:
        model, data = SHARED["odd"].model(), SHARED["odd"].data(*MANY)
        executor = make_native(model, TrainingSettings(batch_size=3, local_epochs=2), 8, share_from=1)
        start = model.initial_weights(1)
        wanted = executor.train(start, data, seed=5, round=2).updates
        data.inputs[7] = np.nan
        for _ in range(2):
            found = executor.train(start, data, seed=5, round=2).updates
            assert bool(found[2].isnan().all())
            assert torch.equal(found[:2], wanted[:2])
            assert torch.equal(found[3:], wanted[3:])


def backwards(data: LocalData) -> LocalData:
    pieces = [data.chunk(row, row + 1) for row in reversed(range(len(data.clients)))]
    return LocalData(
        clients=data.clients[::-1].copy(),
        counts=data.counts[::-1].copy(),
        inputs=torch.cat([piece.inputs for piece in pieces]),
        targets=torch.cat([piece.targets for piece in pieces]),
    )


class threads:  # noqa: N801  # reads as a function
    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self.before)


@pytest.mark.parametrize("round", [0, 2**32 - 1])
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_masks_are_the_words_of_the_clients_stream(seed: int, round: int, instructions: str) -> None:
    """An input that every step drops is a weight that no step changes."""
    width, p = 700, 0.6
    chain = Chain(layers=lambda: [nn.Dropout(p), nn.Linear(width, 2, bias=False)], shape=(width,), head="none")
    model = chain.model()
    clients = np.array([0, 5, 2**31 + 3])
    data = LocalData(
        clients=clients,
        counts=np.array([1, 3, 2]),
        inputs=torch.ones(6, width),
        targets=torch.zeros(6, dtype=torch.int64),
    )
    executor = make_native(model, TrainingSettings(batch_size=1, learning_rate=1e-4), 3)
    found = executor.train(model.initial_weights(1), data, seed=seed, round=round).updates[:, :width].numpy() == 0
    for row, (client, count) in enumerate(zip(clients, data.counts, strict=True)):
        steps = [
            random_words(seed, Purpose.DROPOUT, round=round, entity=int(client), lane=64 * step, count=width)
            < np.round(p * 2**32)
            for step in range(count)
        ]
        np.testing.assert_array_equal(found[row], np.logical_and.reduce(steps))


def test_what_lies_outside_the_tables_is_refused() -> None:
    chain = text(3, 4, lambda: Gru(4, 5))
    model = chain.model()
    break_it: list[tuple[Callable[[LocalData], Any], str]] = [
        (lambda data: data.inputs.__setitem__((2, 1), 6), "tokens must be 0 .. 5"),
        (lambda data: data.inputs.__setitem__((0, 0), -1), "tokens must be 0 .. 5"),
        (lambda data: data.targets.__setitem__((4, 2), 3), "targets must be 0 .. 2"),
        (lambda data: data.targets.__setitem__((11, 0), -100), "targets must be 0 .. 2"),
    ]
    for change, message in break_it:
        data = chain.data()
        change(data)
        with pytest.raises(ValueError, match=message):
            train_natively(model, data, USUAL)
    with pytest.raises(AssertionError):  # an engine is made for the largest client of a population
        make_native(model, USUAL, 6).train(model.initial_weights(1), chain.data(), seed=5, round=2)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": torch.zeros(12, 5, dtype=torch.float64)},
        {"inputs": torch.zeros(12, 6)},
        {"inputs": torch.zeros(11, 5), "targets": torch.zeros(11, dtype=torch.int64)},
        {"targets": torch.zeros(12)},
        {"targets": torch.zeros(11, dtype=torch.int64)},
        {"counts": np.array([12, 0, 0])},
    ],
)
def test_memory_of_another_form_never_reaches_the_engine(change: dict[str, Any]) -> None:
    chain = CHAINS["linear-5"]
    with pytest.raises(AssertionError):
        train_natively(chain.model(), replace(chain.data(), **change), USUAL)
