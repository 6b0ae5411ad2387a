"""`hpcfsl bounds`: held to a plain loop, to a run of one client, and to what it says it leaves out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner, Result
from torch.nn import functional

import hpcfsl
from hpcfsl.bounds.alone import expected_passes, make_trainer, train_party
from hpcfsl.bounds.find import Bounds, Request, find_bounds
from hpcfsl.bounds.measure import average, measure_model
from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.training.batches import epoch_orders
from hpcfsl.world import build_world


def tree(**changes: Any) -> dict[str, dict[str, Any]]:
    data = {"source": "synthetic", "shape": [4], "classes": 3, "samples": 60, "test_samples": 30, "owners": 4}
    found: dict[str, dict[str, Any]] = {
        "run": {"rounds": 3},
        "data": data,
        "model": {"name": "mlp", "hidden": [5]},
        "training": {"batch_size": 4, "learning_rate": 0.2},
        "groups": {"number": 2},
    }
    for section, table in changes.items():
        found[section] = {**found.get(section, {}), **table}
    return found


def value(found: Bounds, bound: str, metric: str, population: str = "test", seed: int = 0) -> float:
    rows = [
        r.value for r in found.rows if (r.bound, r.population, r.metric, r.seed) == (bound, population, metric, seed)
    ]
    assert len(rows) == 1
    return rows[0]


def call(tmp_path: Path, settings: dict[str, Any], *arguments: str) -> Result:
    (tmp_path / "config.toml").write_text(tomli_w.dumps(settings))
    return CliRunner().invoke(main, ["bounds", str(tmp_path / "config.toml"), *arguments])


def test_a_party_trains_as_a_plain_loop_does() -> None:
    world = build_world(resolve(tree(protocol={"name": "fedavg"})), SerialCommunicator())
    rows = world.population.train_rows(2)
    found = train_party(world, make_trainer(world, len(rows)), rows, client=2, passes=3)
    inputs, targets = torch.from_numpy(world.feed.inputs(rows)), torch.from_numpy(world.feed.targets(rows))
    weights = world.model.initial_weights(0)
    for number in range(3):
        order = epoch_orders(np.array([len(rows)]), seed=0, round=number, clients=np.array([2]), epoch=0)[0]
        for start in range(0, len(rows), 4):
            batch = torch.from_numpy(order[start : start + 4])
            weights = weights.detach().requires_grad_()
            outputs = world.model.forward(world.model.layout.unflatten(weights), inputs[batch])
            (slope,) = torch.autograd.grad(functional.cross_entropy(outputs, targets[batch]), weights)
            weights = weights - 0.2 * slope
    torch.testing.assert_close(found, weights.detach(), rtol=1e-4, atol=1e-5)


def test_everything_in_one_batch_is_averaging_over_clients(tmp_path: Path) -> None:
    """One step on all samples is the mean of the clients' steps on all of theirs, which are equally many."""
    settings = tree(run={"preset": "averaging"}, training={"batch_size": 12}, partition={"rule": "iid", "clients": 4})
    run = hpcfsl.run(settings, out=tmp_path / "run")
    world = build_world(resolve(settings), SerialCommunicator())
    training = world.config.training.replace(batch_size=48)
    world = replace(world, config=replace(world.config, training=training))
    rows = world.population.train_pool()
    weights = train_party(world, make_trainer(world, 48), rows, client=0, passes=3)
    found = measure_model(world, weights, np.arange(4))
    assert found["test"]["accuracy"] == run.column("rounds", "test_accuracy")[-1]
    assert found["test"]["loss"] == pytest.approx(run.column("rounds", "test_loss")[-1], rel=1e-5)


def test_passes_are_those_of_a_run_in_the_mean() -> None:
    half = tree(training={"local_epochs": 2}, participation={"rule": "fraction", "fraction": 0.5}, run={"rounds": 5})
    assert expected_passes(build_world(resolve(half), SerialCommunicator())) == 5
    rare = tree(participation={"rule": "number", "clients": 2}, run={"rounds": 1}, partition={"rule": "iid"})
    assert expected_passes(build_world(resolve(rare), SerialCommunicator())) == 1
    assert find_bounds(resolve(half), Request(passes=2)).passes == 2


def test_protocol_method_and_attackers_play_no_part() -> None:
    plain = find_bounds(resolve(tree(protocol={"name": "fedavg"}, run={"preset": "averaging"})), Request())
    other = tree(threat={"attack": "label-flip", "clients": 1}, training={"proximal": 0.5})
    assert find_bounds(resolve(other), Request()).rows == plain.rows


def test_models_are_averaged_by_what_they_are_tested_on() -> None:
    first = {"test": {"loss": 1.0, "perplexity": np.e}, "clients": {"loss": 1.0, "perplexity": np.e}}
    second = {"test": {"loss": 3.0, "perplexity": np.e**3}, "clients": {"loss": 2.0, "perplexity": np.e**2}}
    none = {"test": {"loss": 5.0, "perplexity": np.e**5}}
    found = average([first, none, second], np.array([30, 0, 10]))
    assert found["test"] == {"loss": 3.0, "perplexity": pytest.approx(np.e**3)}
    assert found["clients"] == {"loss": 1.25, "perplexity": pytest.approx(np.e**1.25)}


def test_seeds_follow_that_of_the_configuration() -> None:
    both = find_bounds(resolve(tree(run={"seed": 4})), Request(seeds=2, clients=2))
    second = find_bounds(resolve(tree(run={"seed": 5})), Request(clients=2))
    assert {row.seed for row in both.rows} == {4, 5}
    assert tuple(row for row in both.rows if row.seed == 5) == second.rows


def test_what_it_prints(tmp_path: Path) -> None:
    screen = call(tmp_path, tree(), "--seeds", "2", "--clients", "2")
    assert screen.exit_code == 0, screen.output
    assert "3 passes over 48 samples, 2 clients alone" in " ".join(screen.output.split())
    assert "centralised" in screen.output
    assert "±" in screen.output
    found = json.loads(call(tmp_path, tree(), "--json").output)
    assert found["clients"] == 4
    assert {"seed": 0, "bound": "centralised", "population": "test", "metric": "accuracy"}.items() <= found["rows"][
        0
    ].items()


def test_more_clients_than_there_are(tmp_path: Path) -> None:
    result = call(tmp_path, tree(), "--clients", "5")
    assert result.exit_code == 2
    assert result.output == "hpcfsl: --clients 5: there are only 4 clients\n"
