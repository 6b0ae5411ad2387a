"""The server half's own step size, in every executor against the slow reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.made import small_config, small_world
from support.zoo import zoo_data, zoo_model, zoo_reference
from torch import nn

from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError
from hpcfsl.models.split import split
from hpcfsl.native.library import library
from hpcfsl.round import run_round
from hpcfsl.state import initial_state
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.training.executors import make_executor, train_group
from hpcfsl.training.native.binding import NativeEngine
from hpcfsl.training.native.executor import NativeExecutor
from hpcfsl.training.native.program import compile_program
from hpcfsl.training.optimisers import rates_of
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData

CPU = torch.device("cpu")
OPTIMISERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "clipped": {"clip_norm": 0.3, "proximal": 1.0},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("executor", ["native", "stacked", "one-by-one"])
@pytest.mark.parametrize("name", ["mlp", "next-symbol"])
def test_every_executor_equals_the_slow_reference(name: str, executor: str, optimiser: str) -> None:
    if executor == "native" and library() is None:
        pytest.skip("the kernels were not built")
    model, data = zoo_model(name), zoo_data(name)
    assert 0 < model.layout.client_size < model.layout.size
    settings = TrainingSettings(
        **{"batch_size": 2, "executor": executor, "local_epochs": 2, "server_half_learning_rate": 0.03},
        **OPTIMISERS[optimiser],
    )
    made = make_executor(model, settings, CPU)
    found = train_group(made, model.initial_weights(1), data, chunk=3, seed=5, round=2).updates
    wanted = zoo_reference(model, data, settings, seed=5, round=2)
    noise = 2e-4 if optimiser == "adam" else 3e-6
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=noise)
    alike = zoo_reference(model, data, settings.replace(server_half_learning_rate=0.0), seed=5, round=2)
    assert float(np.abs(np.asarray(wanted) - np.asarray(alike)).max()) > 1e-3


def test_the_first_step_moves_each_half_by_its_own_rate() -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp", (2,), (7,))
    settings = TrainingSettings(batch_size=2, learning_rate=0.1, executor="one-by-one")
    start, moves = model.initial_weights(0), []
    for rate in (0.1, 0.4):
        made = make_executor(model, settings.replace(server_half_learning_rate=rate), CPU)
        moves.append(train_group(made, start, data, chunk=1, seed=0, round=0).updates[0])
    np.testing.assert_allclose(model.layout.client_half(moves[1]), model.layout.client_half(moves[0]), rtol=1e-6)
    np.testing.assert_allclose(
        model.layout.server_half(moves[1]), 4 * model.layout.server_half(moves[0]), rtol=1e-3, atol=1e-7
    )


def test_rates_have_the_order_of_the_layout() -> None:
    layout = zoo_model("mlp").layout
    rates = rates_of(layout, TrainingSettings(learning_rate=0.5, server_half_learning_rate=0.25))
    assert rates == tuple(0.5 if name.startswith("client.") else 0.25 for name in layout.names)
    assert set(rates_of(layout, TrainingSettings(learning_rate=0.5))) == {0.5}


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
def test_a_wide_layer_that_is_shared_steps_at_the_rate_of_its_half() -> None:
    module = nn.Sequential(nn.Linear(16, 67), nn.ReLU(), nn.Linear(67, 64), nn.Tanh(), nn.Linear(64, 3))
    model = split(module, "1", (16,))
    settings = TrainingSettings(batch_size=3, local_epochs=2, server_half_learning_rate=0.02)
    counts, clients = np.array([5, 3, 2]), np.array([0, 4, 9])
    generator = torch.Generator().manual_seed(1)
    data = LocalData(
        clients=clients,
        counts=counts,
        inputs=torch.randn(10, 16, generator=generator),
        targets=torch.randint(3, (10,), generator=generator),
    )
    made = NativeExecutor(model, settings, 5)
    made.plan = replace(made.plan, share_from=1)
    made.program = compile_program(model, made.plan)
    made._engines = [NativeEngine(made.program.words)]
    assert made.program.layers.count("shared-linear") == 2
    found = made.train(model.initial_weights(1), data, seed=5, round=2).updates
    wanted = zoo_reference(model, data, settings, seed=5, round=2)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=3e-6)


def test_the_model_reading_divides_each_half_by_its_own_rate() -> None:
    # One epoch of one whole batch: each half's pseudo-gradient is its gradient, whatever the rate it was found at.
    config = small_config(
        "averaging",
        training={"batch_size": 48, "learning_rate": 0.1, "server_half_learning_rate": 0.4},
        weights={"reading": "model", "learning_rate": 0.1},
        partition={"rule": "iid", "clients": 4},
        groups={"number": 2},
    )
    moves = []
    for apart in (0.4, 0.0):
        world = small_world(replace(config, training=config.training.replace(server_half_learning_rate=apart)))
        state = initial_state(world)
        moves.append(run_round(world, state, 0, Stopwatch())[0].weights - state.weights)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"protocol": {"name": "fedavg"}}, r"training\.server_half_learning_rate = 0\.2: .*has no server half"),
        (
            {"model": {"name": "mlp", "cut": "none"}},
            r"training\.server_half_learning_rate = 0\.2: .*has no server half",
        ),
    ],
)
def test_a_rate_of_no_half_is_refused(sections: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        resolve({"training": {"server_half_learning_rate": 0.2}, **sections})
