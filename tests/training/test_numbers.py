"""Training on targets that are numbers: losses, executors against the reference, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.models.split import SplitModel, split
from hpcfsl.native.library import library
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.training.executors import choose, make_executor, train_group
from hpcfsl.training.loss import mean_loss, sample_losses
from hpcfsl.training.reference import train_client
from hpcfsl.training.settings import LossName, TrainingSettings
from hpcfsl.training.updates import LocalData
from hpcfsl.world import build_world

CPU = torch.device("cpu")
COUNTS = np.array([5, 2, 7])


def model_of(outputs: int) -> SplitModel:
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))
    return split(module, "1", (4,), target_shape=(outputs,), predicts="numbers")


def data_of(outputs: int) -> LocalData:
    drawn = torch.Generator().manual_seed(3)
    rows = int(COUNTS.sum())
    return LocalData(
        clients=np.array([2, 5, 9]),
        counts=COUNTS,
        inputs=torch.randn(rows, 4, generator=drawn),
        targets=2 * torch.randn(rows, outputs, generator=drawn),
    )


@pytest.mark.parametrize(
    ("loss", "of_error"),
    [
        ("auto", lambda error: error**2),
        ("squared", lambda error: error**2),
        ("absolute", abs),
        ("huber", lambda error: 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5),
    ],
)
def test_the_loss_of_numbers_is_their_mean(loss: LossName, of_error: object) -> None:
    assert callable(of_error)
    outputs, targets = torch.tensor([[0.5, 3.0], [1.0, -4.0]]), torch.tensor([[0.0, 1.0], [1.0, -3.5]])
    wanted = [(of_error(0.5) + of_error(2.0)) / 2, (of_error(0.0) + of_error(-0.5)) / 2]
    np.testing.assert_allclose(sample_losses(outputs, targets, loss), wanted, rtol=1e-6)
    np.testing.assert_allclose(mean_loss(outputs, targets, loss), np.mean(wanted), rtol=1e-6)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", ["auto", "absolute", "huber"])
@pytest.mark.parametrize("executor", ["stacked", "one-by-one", *(["native"] if library() else [])])
def test_executors_train_as_the_reference_does(executor: str, loss: LossName, outputs: int) -> None:
    model, data = model_of(outputs), data_of(outputs)
    settings = TrainingSettings(executor=executor, loss=loss, batch_size=3, local_epochs=2, momentum=0.5)
    made = make_executor(model, settings, CPU)
    start = model.initial_weights(1)
    found = train_group(made, start, data, chunk=2, seed=5, round=1)
    for row, first in enumerate(data.starts):
        rows = slice(int(first), int(first + COUNTS[row]))
        wanted = train_client(
            model,
            start,
            data.inputs[rows],
            data.targets[rows],
            settings,
            seed=5,
            round=1,
            client=int(data.clients[row]),
        )
        np.testing.assert_allclose(found.updates[row], wanted, rtol=1e-3, atol=3e-6)
    assert float(found.updates.abs().max()) > 1e-3


def test_a_client_alone_steps_down_the_squared_error() -> None:
    model = split(nn.Sequential(nn.Linear(1, 1, bias=False)), "none", (1,), target_shape=(1,), predicts="numbers")
    data = LocalData(
        clients=np.array([0]),
        counts=np.array([2]),
        inputs=torch.tensor([[1.0], [2.0]]),
        targets=torch.tensor([[3.0], [4.0]]),
    )
    settings = TrainingSettings(executor="one-by-one", batch_size=2, learning_rate=0.1)
    found = train_group(make_executor(model, settings, CPU), torch.zeros(1), data, chunk=1, seed=1, round=0)
    # Mean of (w - 3)^2 and (2 w - 4)^2 at w = 0: gradient -(6 + 16) / 2.
    np.testing.assert_allclose(found.updates, [[1.1]], rtol=1e-6)
    np.testing.assert_allclose(found.loss_first, [12.5], rtol=1e-6)


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"return numbers \[2, 3\]"):
        split(nn.Linear(4, 2), "none", (4,), target_shape=(3,), predicts="numbers")


def test_cross_entropy_of_numbers_that_are_no_classes_is_refused(tmp_path: Path) -> None:
    inputs: Tensor = torch.randn(20, 4)
    config = {
        "run": {"rounds": 1},
        "model": {"name": "mlp"},
        "partition": {"rule": "iid", "clients": 4},
        "training": {"loss": "cross-entropy", "batch_size": 2},
    }
    with pytest.raises(UserError, match=r"training.loss = 'cross-entropy': .* row 1 of the targets is 0.5"):
        hpcfsl.run(config, out=tmp_path / "run", inputs=inputs, targets=np.arange(20) % 2 * 0.5)


@pytest.mark.parametrize(("source", "loss"), [("synthetic", "squared"), ("synthetic-series", "cross-entropy")])
def test_a_loss_that_does_not_fit_the_targets_is_refused(source: str, loss: str) -> None:
    config = resolve({"data": {"source": source}, "model": {"name": "mlp"}, "training": {"loss": loss}})
    with pytest.raises(UserError, match=r"training.loss = .*: the targets of .* are"):
        build_world(config, SerialCommunicator())


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
def test_a_model_of_numbers_is_compiled() -> None:
    assert choose(model_of(1), TrainingSettings(), CPU).executor == "native"
