"""The whole of local training on each device: the same updates on a GPU as the slow reference on the processor.

Without a GPU these run on the processor, and what only a GPU has is skipped. On a machine that has one:
`pytest tests/gpu -ra`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.zoo import ZOO, zoo_data, zoo_model, zoo_reference

from hpcfsl.parallel.device import device_of_rank
from hpcfsl.training.executors import make_executor, train_group
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.staging import Stager
from hpcfsl.training.updates import FirstUpdates

NEEDS_CUDA = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is visible: nothing of it is tested"
)
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]
FULL = (4, 4, 4, 4)
LOCAL: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "local_epochs": 2},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "local_epochs": 2},
    "all": {"proximal": 0.5, "clip_norm": 0.5, "weight_decay": 0.1, "momentum": 0.5, "local_epochs": 2},
}


@pytest.fixture(autouse=True)
def _flags_restored() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


def train(
    name: str, device: str, *, counts: tuple[int, ...] = (5, 1, 8, 3), chunk: int = 3, rounds: int = 1, **settings: Any
) -> FirstUpdates:
    """Return the last round's updates, on the processor."""
    place = device_of_rank(device, 0, tf32=settings.get("precision") == "tf32")
    model, data = zoo_model(name), zoo_data(name, counts)
    executor = make_executor(model, TrainingSettings(**{"batch_size": 2, **settings}), place)
    start = model.initial_weights(1).to(place)
    for round in range(rounds):
        found = train_group(executor, start, data, chunk=chunk, seed=5, round=round)
    assert found.updates.device == start.device
    return replace(found, updates=found.updates.cpu())


def check(found: FirstUpdates, name: str, *, counts: tuple[int, ...], round: int = 0, **settings: Any) -> None:
    chosen = TrainingSettings(**{"batch_size": 2, **settings})
    wanted = zoo_reference(zoo_model(name), zoo_data(name, counts), chosen, seed=5, round=round)
    noise = 5e-4 if settings.get("optimizer") == "adam" else 1e-5
    np.testing.assert_allclose(found.updates, wanted, rtol=2e-3, atol=noise)


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
@pytest.mark.parametrize("name", sorted(ZOO))
@pytest.mark.parametrize("device", DEVICES)
def test_every_model_equals_the_slow_reference(device: str, name: str, executor: str) -> None:
    found = train(name, device, executor=executor)
    check(found, name, counts=(5, 1, 8, 3))


@pytest.mark.parametrize("local", sorted(LOCAL))
@pytest.mark.parametrize("device", DEVICES)
def test_every_optimiser_equals_the_slow_reference(device: str, local: str) -> None:
    found = train("next-symbol", device, executor="stacked", **LOCAL[local])
    check(found, "next-symbol", counts=(5, 1, 8, 3), **LOCAL[local])


@pytest.mark.parametrize("name", ["mlp", "dropouts", "block", "lenet5"])
@pytest.mark.parametrize("device", DEVICES)
def test_the_same_bits_twice(device: str, name: str) -> None:
    first = train(name, device, executor="stacked", momentum=0.5)
    assert torch.equal(train(name, device, executor="stacked", momentum=0.5).updates, first.updates)


@pytest.mark.parametrize("precision", ["bf16", pytest.param("tf32", marks=NEEDS_CUDA)])
@pytest.mark.parametrize("device", DEVICES)
def test_less_precise_arithmetic_trains_to_about_the_same(device: str, precision: str) -> None:
    if (device, precision) == ("cpu", "tf32"):
        pytest.skip("TF32 is CUDA's")
    exact = train("cifar-cnn", device, executor="stacked").updates
    found = train("cifar-cnn", device, executor="stacked", precision=precision).updates
    assert float((found - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("local", sorted(LOCAL))
@pytest.mark.parametrize("name", ["mlp", "cifar-cnn", "dropouts", "next-symbol", "block"])
@NEEDS_CUDA
def test_a_replayed_graph_takes_the_same_steps(name: str, local: str) -> None:
    # Two rounds, so that a graph recorded in the first is replayed in the second; the last chunk is a smaller one.
    settings = {"executor": "stacked", **LOCAL[local]}
    found = train(name, "cuda", counts=FULL, rounds=2, cuda_graphs=True, **settings)
    check(found, name, counts=FULL, round=1, **settings)
    eager = train(name, "cuda", counts=FULL, rounds=2, **settings)
    np.testing.assert_allclose(found.updates, eager.updates, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.loss_first, eager.loss_first, rtol=1e-4)


@NEEDS_CUDA
def test_ragged_chunks_mix_replayed_and_eager_steps() -> None:
    settings: dict[str, Any] = {"executor": "stacked", "momentum": 0.5, "local_epochs": 2}
    found = train("mlp", "cuda", chunk=4, rounds=2, cuda_graphs=True, **settings)
    check(found, "mlp", counts=(5, 1, 8, 3), round=1, **settings)


@pytest.mark.parametrize("device", DEVICES)
def test_chunks_arrive_whole(device: str) -> None:
    data = zoo_data("mlp")
    pieces = list(Stager(torch.device(device)).chunks(data, 2))
    assert {piece.inputs.device.type for piece in pieces} == {device}
    assert torch.equal(torch.cat([piece.inputs.cpu() for piece in pieces]), data.inputs)
    assert torch.equal(torch.cat([piece.targets.cpu() for piece in pieces]), data.targets)
