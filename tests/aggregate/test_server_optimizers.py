from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.made import as_bits, small_config, small_world
from torch import Tensor

import hpcfsl
from hpcfsl.aggregate.server import ServerOptimizer, apply_update, applying, server_optimizers
from hpcfsl.agreement import state_hash
from hpcfsl.config import Config, resolve
from hpcfsl.round import run_round
from hpcfsl.state import State, initial_state
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.compare import compare

RULES: dict[str, dict[str, Any]] = {
    "average": {"rule": "average"},
    "momentum": {"rule": "momentum", "momentum": 0.8},
    "adam": {"rule": "adam"},
    "adam-corrected": {"rule": "adam", "bias_correction": True, "beta2": 0.95, "adaptivity": 1e-2},
    "yogi": {"rule": "yogi", "beta1": 0.5, "beta2": 0.9},
}


def updates(rounds: int, size: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-4, 0, size)
    return [scale * torch.randn(size, generator=generator) for _ in range(rounds)]


def steps(rule: ServerOptimizer, start: Tensor, given_updates: list[Tensor], rate: float) -> Tensor:
    weights, moments = start, dict[str, Tensor]()
    for number, update in enumerate(given_updates):
        moved = apply_update(rule, weights, moments, update, rate=rate, steps=number)
        assert moved is not None
        weights, moments = moved.weights, moved.moments
    return weights


def written_out(tree: dict[str, Any], start: Tensor, given_updates: list[Tensor], rate: float) -> NDArray[np.float64]:
    """Algorithm 2 of the paper, one coordinate after another."""
    b1, b2, tau = tree.get("beta1", 0.9), tree.get("beta2", 0.99), tree.get("adaptivity", 1e-3)
    corrected = tree.get("bias_correction", False)
    after = []
    for place, weight in enumerate(start.double().tolist()):
        m = total = 0.0
        v = 0.0 if corrected else tau**2
        for t, update in enumerate(given_updates, start=1):
            delta = float(update[place])
            if tree["rule"] == "average":
                weight += rate * delta
                continue
            if tree["rule"] == "momentum":
                total = tree["momentum"] * total + delta
                weight += rate * total
                continue
            m = b1 * m + (1 - b1) * delta
            if tree["rule"] == "adam":
                v = b2 * v + (1 - b2) * delta**2
            else:
                v = v - (1 - b2) * delta**2 * np.sign(v - delta**2)
            m_hat, v_hat = (m / (1 - b1**t), v / (1 - b2**t)) if corrected else (m, v)
            weight += rate * m_hat / (v_hat**0.5 + tau)
        after.append(weight)
    return np.array(after)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_against_the_formulas_written_out(name: str) -> None:
    start, given_updates = torch.linspace(-1, 1, 12), updates(7, 12)
    found = steps(server_optimizers.parse(RULES[name]), start, given_updates, 0.1)
    np.testing.assert_allclose(found, written_out(RULES[name], start, given_updates, 0.1), rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize(
    ("tree", "make"),
    [
        ({"rule": "average"}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"rule": "momentum", "momentum": 0.8}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        (
            {"rule": "adam", "bias_correction": True, "beta2": 0.95, "adaptivity": 1e-2},
            lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.95), eps=1e-2),
        ),
    ],
    ids=["average", "momentum", "adam"],
)
def test_the_rules_that_torch_has_too_are_torchs(tree: dict[str, Any], make: Any) -> None:
    start, given_updates = torch.linspace(-1, 1, 12), updates(9, 12)
    theirs = start.clone()
    optimiser = make([theirs])
    for update in given_updates:
        theirs.grad = -update
        optimiser.step()
    found = steps(server_optimizers.parse(tree), start, given_updates, 0.1)
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_pieces_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, start, given_updates = server_optimizers.parse(RULES[name]), torch.linspace(-1, 1, 50), updates(3, 50)
    whole = steps(rule, start, given_updates, 0.3)
    monkeypatch.setattr(applying, "_PIECE", 7)
    assert as_bits(steps(rule, start, given_updates, 0.3)) == as_bits(whole)


@given(st.floats(-1e3, 1e3, width=32), st.floats(0.01, 10))
def test_average_adds_the_update_in_float64(delta: float, rate: float) -> None:
    start, update = torch.tensor([0.3, -2.0]), torch.tensor([delta, 1.0])
    moved = apply_update(server_optimizers.parse({"rule": "average"}), start, {}, update, rate=rate, steps=0)
    assert moved is not None
    assert torch.equal(moved.weights, (start.double() + rate * update.double()).float())
    assert moved.moments == {}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_a_step_out_of_the_finite_numbers_is_not_taken(name: str, bad: float) -> None:
    rule, start = server_optimizers.parse(RULES[name]), torch.full((3,), 3e38)
    assert apply_update(rule, start, {}, torch.tensor([0.0, bad, 0.0]), rate=1.0, steps=0) is None


def config_of(name: str, **sections: Any) -> Config:
    rate = 0.02 if name.startswith(("adam", "yogi")) else 0.5
    training = {"batch_size": 4, "server_learning_rate": rate}
    return small_config(server_optimizer=RULES[name], training=training, **sections)


def rounds(config: Config, number: int) -> list[State]:
    world = small_world(config)
    states = [initial_state(world)]
    for round in range(number):
        states.append(run_round(world, states[-1], round, Stopwatch())[0])
    return states


@pytest.mark.parametrize("name", RULES)
def test_the_last_update_stays_the_target_update(name: str) -> None:
    """Rules across groups clip round it; an optimiser's own step would be another quantity."""
    first, second = rounds(config_of(name), 1), rounds(config_of("average"), 1)
    assert as_bits(first[1].last_update) == as_bits(second[1].last_update)
    assert first[1].server_steps == 1
    if name != "average":
        assert as_bits(first[1].weights) != as_bits(second[1].weights) or name == "momentum"
        assert set(first[1].moments) == set(server_optimizers.parse(RULES[name]).first_moments())


def test_the_server_rate_decays_with_each_step() -> None:
    training = {"batch_size": 4, "server_learning_rate": 0.8, "server_learning_rate_decay": 0.5}
    states = rounds(small_config(training=training), 3)
    for step, (before, after) in enumerate(pairwise(states)):
        wanted = before.weights.double() + 0.8 * 0.5**step * after.last_update.double()
        assert as_bits(after.weights) == as_bits(wanted.float())
        assert float(after.last_update.norm()) > 0


@pytest.mark.parametrize("name", ["momentum", "yogi"])
def test_a_round_that_does_not_move_the_model_moves_no_moment(name: str) -> None:
    world = small_world(config_of(name))
    moved, _ = run_round(world, initial_state(world), 0, Stopwatch())
    nobody = replace(world.config, faults=resolve({"faults": {"rule": "random", "dropout_before": 1.0}}).faults)
    stays, outcome = run_round(replace(world, config=nobody), moved, 1, Stopwatch())
    assert not outcome.moved
    assert stays.server_steps == moved.server_steps == 1
    assert stays.moments.keys() == moved.moments.keys()
    for kept, before in zip(stays.moments.values(), moved.moments.values(), strict=True):
        assert as_bits(kept) == as_bits(before)


def test_drift_of_a_moment_is_seen() -> None:
    state = rounds(config_of("adam"), 1)[1]
    other = replace(state, moments={**state.moments, "square": state.moments["square"] * 1.0001})
    assert state_hash(state) != state_hash(other)


@pytest.mark.parametrize("name", ["momentum", "adam", "yogi"])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    tree = config.tree()
    tree["run"]["rounds"] = 4
    whole = hpcfsl.run(tree, out=tmp_path / "whole")
    tree["run"]["rounds"] = 2
    hpcfsl.run(tree, out=tmp_path / "parts")
    tree["run"]["rounds"] = 4
    parts = hpcfsl.run(tree, out=tmp_path / "parts")
    assert compare(whole, parts) is None


def test_a_rule_without_a_direction_says_so() -> None:
    with pytest.raises(AssertionError, match="has a direction"):
        ServerOptimizer(rule="nameless").direction(torch.zeros(1), {}, 0)
