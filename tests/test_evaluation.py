"""What runs measure: against slow references, beside naive baselines, for clients that never train."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.data.dataset import Dataset
from hpcfsl.errors import UserError
from hpcfsl.naive import naive_metrics
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.trace.schema import METRICS, POPULATIONS
from hpcfsl.world import World, build_world

Maker = Callable[..., dict[str, dict[str, Any]]]
FORECAST = {"rule": "iid", "clients": 6}


def metrics_of(run: hpcfsl.Run, round: int, population: str) -> dict[str, float]:
    rows = run.table("metrics")
    chosen = (rows["round"] == round) & (rows["population"] == POPULATIONS.index(population))
    return {METRICS[metric]: value for metric, value in zip(rows["metric"][chosen], rows["value"][chosen], strict=True)}


def world_of(tree: dict[str, Any], dataset: Dataset | None = None) -> World:
    return build_world(resolve(tree), SerialCommunicator(), dataset=dataset)


def outputs_of(world: World, weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    named = world.model.layout.unflatten(torch.from_numpy(weights.copy()))
    return world.model.forward(named, torch.from_numpy(inputs)).double().numpy()


@pytest.mark.parametrize("partition", [{"rule": "natural"}, {"rule": "dirichlet", "clients": 7}])
def test_classes_are_measured_as_scikit_learn_does(tmp_path: Path, tiny: Maker, partition: dict[str, Any]) -> None:
    tree = tiny(partition=partition, evaluation={"clients_every": 1, "held_out_clients": 2, "shard": 7})
    run, world = hpcfsl.run(resolve(copy.deepcopy(tree)), out=tmp_path / "run"), world_of(tree)
    last, feed = run.rounds_done - 1, world.feed
    apart, _ = feed.held_out_clients()
    for population, (inputs, targets) in {
        "test": feed.test_batch(0, feed.num_test),
        "clients": feed.clients_test(np.arange(feed.num_clients)),
        "held-out-clients": feed.held_out_test(apart),
    }.items():
        logits = outputs_of(world, run.weights(), inputs)
        found = metrics_of(run, last, population)
        assert found["accuracy"] == sklearn.accuracy_score(targets, logits.argmax(1))
        assert found["macro-f1"] == pytest.approx(
            sklearn.f1_score(targets, logits.argmax(1), average="macro", zero_division=0.0)
        )
        shares = np.exp(logits - logits.max(1, keepdims=True))
        wanted = -np.log(shares[np.arange(len(targets)), targets] / shares.sum(1)).mean()
        assert found["loss"] == pytest.approx(wanted, rel=1e-5)


def test_numbers_are_measured_in_the_units_of_the_data(tmp_path: Path, tiny: Maker) -> None:
    tree = tiny(
        data={"source": "diabetes"},
        partition={"rule": "quantity", "clients": 8},
        training={"batch_size": 4, "loss": "huber"},
        evaluation={"clients_every": 1, "held_out_clients": 3, "shard": 10},
    )
    run, world = hpcfsl.run(resolve(copy.deepcopy(tree)), out=tmp_path / "run"), world_of(tree)
    feed, last = world.feed, run.rounds_done - 1
    assert feed.target_shift is not None
    assert feed.target_scale is not None
    true = feed.dataset.targets[feed.population.test_pool()]
    inputs, _ = feed.test_batch(0, feed.num_test)
    predicted = outputs_of(world, run.weights(), inputs) * feed.target_scale + feed.target_shift
    found = metrics_of(run, last, "test")
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(true, predicted), rel=1e-5)
    assert found["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(true, predicted)), rel=1e-5)
    assert found["r2"] == pytest.approx(sklearn.r2_score(true, predicted), abs=1e-5)
    rows = run.table("evaluation")
    one = (rows["round"] == last) & (rows["client"] == 2)
    own = feed.dataset.targets[feed.population.test_rows(2)]
    inputs, _ = feed.client_test(2)
    predicted = outputs_of(world, run.weights(), inputs) * feed.target_scale + feed.target_shift
    assert rows["mae"][one] == pytest.approx([sklearn.mean_absolute_error(own, predicted)], rel=1e-5)
    assert rows["num_samples"][one] == [len(own)]


def test_who_is_held_out_is_marked(tmp_path: Path, tiny: Maker) -> None:
    tree = tiny(evaluation={"every": 2, "held_out_clients": 3})
    run = hpcfsl.run(resolve(tree), out=tmp_path / "run")
    clients, tested = run.table("clients"), run.table("evaluation")
    apart = clients["held_out"] == 1
    assert apart.sum() == 3
    assert clients["client"][apart].min() > clients["client"][~apart].max()
    assert (clients["num_train"][apart] == 0).all()
    assert clients["first_round"][apart].tolist() == [1, 1, 1]
    assert not np.isin(run.column("participation", "client"), clients["client"][apart]).any()
    assert set(tested["round"].tolist()) == {1}
    assert (tested["held_out"] == 1).all()
    assert np.isnan(run.column("rounds", "client_accuracy_mean")).all()


def test_the_naive_baseline_stands_in_the_first_evaluated_round(tmp_path: Path, tiny: Maker) -> None:
    run = hpcfsl.run(resolve(tiny(evaluation={"every": 2})), out=tmp_path / "run")
    rows = run.table("metrics")
    assert set(rows["round"][rows["population"] == POPULATIONS.index("naive")].tolist()) == {1}


def test_the_commonest_class_is_the_baseline_of_classes(tiny: Maker) -> None:
    world = world_of(tiny(partition={"rule": "dirichlet", "clients": 5}))
    feed, found = world.feed, naive_metrics(world)
    trained = feed.dataset.targets[feed.population.train_pool()]
    _, tested = feed.test_batch(0, feed.num_test)
    commonest = np.full(len(tested), np.bincount(trained).argmax())
    assert found["accuracy"] == sklearn.accuracy_score(tested, commonest)
    assert found["macro-f1"] == pytest.approx(sklearn.f1_score(tested, commonest, average="macro", zero_division=0.0))
    assert "perplexity" not in found


def test_the_frequency_of_symbols_is_the_baseline_of_sequences(tiny: Maker) -> None:
    text = {"source": "synthetic-text", "symbols": 5, "positions": 6, "samples": 240, "test_samples": 40}
    world = world_of(tiny(data=text, model={"name": "gru-lm", "hidden": 8}))
    feed, found = world.feed, naive_metrics(world)
    counts = np.ones(feed.num_classes)
    for client in range(feed.num_clients):
        for symbol in feed.dataset.targets[feed.population.train_rows(client)].reshape(-1):
            counts[symbol] += 1
    _, tested = feed.test_batch(0, feed.num_test)
    loss = -np.log(counts[tested] / counts.sum()).mean()
    assert found["perplexity"] == pytest.approx(math.exp(loss))
    assert found["accuracy"] == (tested == counts.argmax()).mean()


def series(last_values: tuple[int, ...]) -> Dataset:
    drawn = np.random.default_rng(2)
    inputs = drawn.normal(50.0, 9.0, (90, 4, 2))
    targets = inputs[:, -1, :] + drawn.normal(size=(90, 2))
    return Dataset(
        name="windows",
        inputs=inputs,
        targets=targets,
        owners=None,
        num_classes=0,
        test_inputs=None,
        test_targets=None,
        last_values=last_values,
    )


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("last_values", [(6, 7), ()])
def test_the_baseline_of_numbers_is_the_last_value_or_the_mean(
    tiny: Maker, last_values: tuple[int, ...], standardise: bool
) -> None:
    dataset = series(last_values)
    tree = tiny(partition=FORECAST, model={"name": "mlp"}, data={"standardise": standardise})
    world = world_of(tree, dataset)
    rows = world.population.test_pool()
    mean = dataset.targets[world.population.train_pool()].mean(0)
    guess = dataset.inputs[rows, -1, :] if last_values else np.broadcast_to(mean, (len(rows), 2))
    found, true = naive_metrics(world), dataset.targets[rows]
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(true, guess), rel=1e-5)
    assert found["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(true, guess)), rel=1e-5)
    assert found["r2"] == pytest.approx(sklearn.r2_score(true, guess), abs=1e-5)


def test_owners_and_numbers_do_not_go_together(tmp_path: Path, tiny: Maker) -> None:
    with pytest.raises(UserError, match=r"evaluation\.held_out_clients = 2: does nothing beside"):
        hpcfsl.run(resolve(tiny(evaluation={"held_out_clients": 2, "held_out_owners": [0]})), out=tmp_path / "run")
