from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.made import as_bits

from hpcfsl.models import models
from hpcfsl.models.split import SplitModel, split
from hpcfsl.training.evaluation import evaluate
from hpcfsl.training.executors import make_executor, train_group
from hpcfsl.training.reference import train_client
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData

SHAPES = {"mlp": (6,), "digits-cnn": (1, 8, 8)}
RAGGED = (5, 1, 8, 3)
OPTIMISERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9, "local_epochs": 2},
    "decay": {"weight_decay": 0.1},
    "both": {"momentum": 0.5, "weight_decay": 0.05, "local_epochs": 3, "batch_size": 3},
    "whole-batch": {"batch_size": 100, "local_epochs": 2},
}


def make_model(name: str, cut: str = "relu1") -> SplitModel:
    return split(models.parse({"name": name}).build(SHAPES[name], 3), cut, SHAPES[name])


def make_data(name: str, counts: tuple[int, ...] = RAGGED, clients: tuple[int, ...] = (2, 3, 7, 11)) -> LocalData:
    rng = np.random.default_rng(0)
    total = sum(counts)
    return LocalData(
        clients=np.array(clients),
        counts=np.array(counts),
        inputs=torch.from_numpy(rng.normal(size=(total, *SHAPES[name])).astype(np.float32)),
        targets=torch.from_numpy(rng.integers(0, 3, total)),
    )


def train(
    model: SplitModel, data: LocalData, *, executor: str, chunk: int = 100, round: int = 2, **settings: Any
) -> FirstUpdates:
    chosen = TrainingSettings(**{"batch_size": 2, "executor": executor, **settings})
    made = make_executor(model, chosen, torch.device("cpu"))
    assert made.name == executor
    return train_group(made, model.initial_weights(1), data, chunk=chunk, seed=5, round=round)


@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
@pytest.mark.parametrize("name", sorted(SHAPES))
def test_executors_equal_the_slow_reference(name: str, executor: str, optimiser: str) -> None:
    model, data = make_model(name), make_data(name)
    settings = {"batch_size": 2, **OPTIMISERS[optimiser]}
    found = train(model, data, executor=executor, **settings)
    start = model.initial_weights(1)
    for row, client in enumerate(data.clients):
        rows = slice(int(data.starts[row]), int(data.starts[row] + data.counts[row]))
        wanted = train_client(
            model,
            start,
            data.inputs[rows],
            data.targets[rows],
            TrainingSettings(**settings),
            seed=5,
            round=2,
            client=int(client),
        )
        np.testing.assert_allclose(found.updates[row], wanted, rtol=1e-3, atol=2e-6)
        assert float(wanted.abs().max()) > 1e-3


@pytest.mark.parametrize("cut", ["linear1", "relu1", "linear2", "relu2"])
def test_the_reference_is_the_same_at_every_cut(cut: str) -> None:
    settings = TrainingSettings(batch_size=2, momentum=0.5)
    data = make_data("mlp")
    updates = []
    for model in (make_model("mlp", cut), make_model("mlp", "none")):
        update = train_client(
            model, model.initial_weights(1), data.inputs, data.targets, settings, seed=1, round=0, client=4
        )
        updates.append({name.partition(".")[2]: value for name, value in model.layout.unflatten(update).items()})
    for name, value in updates[0].items():
        np.testing.assert_allclose(value, updates[1][name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_one_by_one_gives_a_client_the_same_bits_in_any_company(name: str) -> None:
    model, data = make_model(name), make_data(name)
    together = train(model, data, executor="one-by-one", momentum=0.5)
    for chunk in (1, 2, 3):
        assert as_bits(train(model, data, executor="one-by-one", chunk=chunk, momentum=0.5).updates) == as_bits(
            together.updates
        )
    for row in range(4):
        alone = train(model, data.chunk(row, row + 1), executor="one-by-one", momentum=0.5)
        assert as_bits(alone.updates[0].clone()) == as_bits(together.updates[row].clone())


def test_stacked_is_repeatable_and_chunks_agree_to_tolerance() -> None:
    model, data = make_model("mlp"), make_data("mlp")
    together = train(model, data, executor="stacked")
    assert as_bits(train(model, data, executor="stacked").updates) == as_bits(together.updates)
    pieces = train(model, data, executor="stacked", chunk=2)
    np.testing.assert_allclose(pieces.updates, together.updates, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
def test_what_is_reported_beside_the_updates(executor: str) -> None:
    model, data = make_model("mlp"), make_data("mlp")
    found = train(model, data, executor=executor, local_epochs=3, chunk=3)
    assert found.clients.tolist() == [2, 3, 7, 11]
    assert found.samples.tolist() == [5, 1, 8, 3]
    assert found.steps.tolist() == [9, 3, 12, 6]
    assert found.updates.shape == (4, model.layout.size)
    assert found.updates.dtype == torch.float32
    assert (found.loss_last < found.loss_first).all()
    # With one whole batch the first epoch's loss is that of the start weights.
    whole = train(model, data, executor=executor, batch_size=100)
    for row in range(4):
        piece = data.chunk(row, row + 1)
        _, total = evaluate(model, model.initial_weights(1), piece.inputs, piece.targets)
        assert whole.loss_first[row] == pytest.approx(total / len(piece.targets), rel=1e-5)
        assert whole.loss_first[row] == whole.loss_last[row]


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
def test_nothing_is_left_over_from_one_round_to_the_next(executor: str) -> None:
    model, data = make_model("mlp"), make_data("mlp")
    made = make_executor(model, TrainingSettings(batch_size=2, momentum=0.9, executor=executor), torch.device("cpu"))
    start = model.initial_weights(1)
    before = start.clone()
    first = made.train(start, data, seed=5, round=0).updates
    made.train(start, data, seed=5, round=1)
    assert torch.equal(made.train(start, data, seed=5, round=0).updates, first)
    assert torch.equal(start, before)


def test_batches_are_keyed_by_seed_and_round() -> None:
    model, data = make_model("mlp"), make_data("mlp")
    assert not torch.equal(
        train(model, data, executor="one-by-one").updates, train(model, data, executor="one-by-one", round=3).updates
    )


def test_auto_follows_the_model_and_the_device() -> None:
    settings, cpu = TrainingSettings(), torch.device("cpu")
    assert make_executor(make_model("mlp"), settings, cpu).name == "stacked"
    assert make_executor(make_model("digits-cnn"), settings, cpu).name == "one-by-one"
    assert make_executor(make_model("digits-cnn"), settings, torch.device("cuda")).name == "stacked"


def test_evaluation_counts_and_adds() -> None:
    model, data = make_model("mlp"), make_data("mlp")
    weights = model.initial_weights(1)
    correct, loss = evaluate(model, weights, data.inputs, data.targets)
    scores = model.forward(model.layout.unflatten(weights), data.inputs).detach().double().numpy()
    wanted = [np.log(np.exp(row).sum()) - row[target] for row, target in zip(scores, data.targets, strict=True)]
    assert correct == (scores.argmax(axis=1) == data.targets.numpy()).sum()
    assert loss == pytest.approx(sum(wanted), rel=1e-5)
