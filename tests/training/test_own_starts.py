"""Clients that start from weights of their own, and gradients with a drift added: every executor, any chunk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.zoo import zoo_data, zoo_model

from hpcfsl.models.split import SplitModel
from hpcfsl.training.executors import make_executor, train_group
from hpcfsl.training.reference import train_client
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData

CPU = torch.device("cpu")
EXECUTORS = ("native", "stacked", "one-by-one")
SETTINGS: dict[str, Any] = {"batch_size": 2, "local_epochs": 2, "proximal": 0.5, "clip_norm": 1.0, "weight_decay": 0.1}


def train(model: SplitModel, start: torch.Tensor, data: LocalData, executor: str, chunk: int = 100) -> FirstUpdates:
    settings = TrainingSettings(**SETTINGS, executor=executor)
    made = make_executor(model, settings, CPU, alike=start.ndim == 1 and data.drift is None)
    return train_group(made, start, data, chunk=chunk, seed=5, round=2)


def own_starts(model: SplitModel, clients: int) -> torch.Tensor:
    """Return weights that differ between clients, float32 [clients, params]."""
    return torch.stack([(1 + 0.1 * row) * model.initial_weights(row) for row in range(clients)])


def drifts(model: SplitModel, clients: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return 0.1 * torch.randn(clients, model.layout.size, generator=generator)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", ["mlp", "next-symbol", "dropouts"])
def test_equal_rows_are_one_common_start(name: str, executor: str) -> None:
    model, data = zoo_model(name), zoo_data(name)
    start = model.initial_weights(1)
    common = train(model, start, data, executor)
    rows = train(model, start.expand(4, -1).contiguous(), data, executor)
    assert torch.equal(rows.updates, common.updates)
    assert rows.loss_last.tolist() == common.loss_last.tolist()


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", ["mlp", "next-symbol", "dropouts"])
def test_a_row_is_what_its_client_starts_from_whatever_the_chunk(name: str, executor: str) -> None:
    model, data = zoo_model(name), zoo_data(name)
    starts = own_starts(model, 4)
    together = train(model, starts, data, executor)
    for row in range(4):
        alone = train(model, starts[row], data.chunk(row, row + 1), executor)
        compare_bits_or_numbers(executor, alone.updates[0], together.updates[row])
    for chunk in (1, 3):
        compare_bits_or_numbers(executor, train(model, starts, data, executor, chunk).updates, together.updates)


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", ["mlp", "scaled", "next-symbol"])
def test_own_starts_and_drifts_equal_the_slow_reference(name: str, executor: str, drift: bool) -> None:
    if (name, executor) == ("scaled", "native"):
        name = "dropouts"  # the engine does not know parameters of a module's own
    model, data = zoo_model(name), zoo_data(name)
    starts = own_starts(model, 4)
    data = LocalData(**{**vars(data), "drift": drifts(model, 4) if drift else None})
    found = train(model, starts, data, executor, chunk=3)
    for row in range(4):
        piece = data.chunk(row, row + 1)
        wanted = train_client(
            model,
            starts[row],
            piece.inputs,
            piece.targets,
            TrainingSettings(**SETTINGS),
            seed=5,
            round=2,
            client=int(data.clients[row]),
            drift=None if piece.drift is None else piece.drift[0],
        )
        np.testing.assert_allclose(found.updates[row], wanted, rtol=1e-3, atol=3e-6)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_drift_moves_a_step_by_itself(executor: str) -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp", (2,), (3,))
    settings = TrainingSettings(batch_size=2, executor=executor, learning_rate=0.5)
    made = make_executor(model, settings, CPU, alike=False)
    start, drift = model.initial_weights(1), drifts(model, 1)
    plain = made.train(start, data, seed=0, round=0).updates
    drifted = made.train(start, LocalData(**{**vars(data), "drift": drift}), seed=0, round=0).updates
    np.testing.assert_allclose(drifted - plain, -0.5 * drift, rtol=1e-4, atol=1e-6)
    assert torch.equal(made.train(start, data, seed=0, round=0).updates, plain)  # and leaves no trace


def test_wide_layers_are_not_shared_by_clients_with_starts_of_their_own() -> None:
    model = wide_model()
    alike, apart = (
        make_executor(model, TrainingSettings(executor="native"), CPU, most_samples=16, alike=alike)
        for alike in (True, False)
    )
    assert "wide layers shared" in alike.detail
    assert "shared" not in apart.detail
    data = zoo_data("mlp", (2, 2), (1, 2))
    data = LocalData(**{**vars(data), "inputs": torch.zeros(4, 512), "targets": torch.zeros(4, dtype=torch.int64)})
    with pytest.raises(AssertionError, match="wide layers are shared"):
        alike.train(own_starts(model, 2), data, seed=0, round=0)


def wide_model() -> SplitModel:
    from torch import nn

    from hpcfsl.models.split import split

    module = nn.Sequential(nn.Linear(512, 520), nn.ReLU(), nn.Linear(520, 3))
    return split(module, "0", (512,))


def compare_bits_or_numbers(executor: str, found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Stacked products have other bits with another number of clients; the other two executors never mix them."""
    if executor == "stacked":
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=3e-6)
    else:
        assert torch.equal(found, wanted)
