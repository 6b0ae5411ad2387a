"""Attackers that poison their smashed data, each with a server copy of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.made import small_config, small_world
from torch import nn

from hpcfsl.models.split import SplitModel, split
from hpcfsl.threats import Threat, threats
from hpcfsl.training.executors import make_executor
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.poisoned import PoisonedExecutor, PoisonedLink
from hpcfsl.training.reference import train_client
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import LocalData

ATTACKERS = np.array([4, 7])
CLIENTS, COUNTS = np.array([1, 4, 5, 7]), np.array([9, 6, 3, 8])


def make_model() -> SplitModel:
    return split(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3)), "1", (5,))


def make_data(clients: np.ndarray = CLIENTS, counts: np.ndarray = COUNTS) -> LocalData:
    rng = np.random.default_rng(2)
    return LocalData(
        clients=clients,
        counts=counts,
        inputs=torch.from_numpy(rng.normal(size=(counts.sum(), 5)).astype(np.float32)),
        targets=torch.from_numpy(rng.integers(0, 3, counts.sum())),
    )


def make_poisoned(model: SplitModel, settings: TrainingSettings, threat: Threat) -> PoisonedExecutor:
    honest = make_executor(model, settings, torch.device("cpu"))
    return PoisonedExecutor(
        honest,
        model,
        settings,
        torch.device("cpu"),
        threat=threat,
        attacks=lambda clients, round: np.isin(clients, ATTACKERS) & (round >= 3),
    )


def make_threat(attack: str, **settings: Any) -> Threat:
    return threats.parse({"attack": attack, **settings})


SETTINGS = TrainingSettings(learning_rate=0.1, batch_size=4, local_epochs=2, momentum=0.5)


@pytest.mark.parametrize("executor", ["native", "stacked", "one-by-one"])
@pytest.mark.parametrize("attack", ["smashed-noise", "smashed-shift"])
def test_against_the_slow_reference_and_honest_clients_as_ever(attack: str, executor: str) -> None:
    model, settings, threat = make_model(), SETTINGS.replace(executor=executor), make_threat(attack, scale=0.5)
    data = make_data()
    starts = torch.stack([model.initial_weights(seed) for seed in range(4)])
    found = make_poisoned(model, settings, threat).train(starts, data, seed=1, round=3)
    honest = make_executor(model, settings, torch.device("cpu")).train(starts, data, seed=1, round=3)
    assert found.clients.tolist() == CLIENTS.tolist()
    assert found.samples.tolist() == COUNTS.tolist()
    assert found.steps.tolist() == honest.steps.tolist()
    link = PoisonedLink(model.link, threat)
    for row, client in enumerate(CLIENTS):
        if client not in ATTACKERS:
            torch.testing.assert_close(found.updates[row], honest.updates[row], rtol=1e-5, atol=1e-6)
            continue
        assert not torch.allclose(found.updates[row], honest.updates[row], atol=1e-3)
        link.begin(seed=1, round=3, client=CLIENTS[row : row + 1])
        rows = slice(int(data.starts[row]), int(data.starts[row] + COUNTS[row]))
        wanted = train_client(
            replace(model, link=link),
            starts[row],
            data.inputs[rows],
            data.targets[rows],
            settings,
            seed=1,
            round=3,
            client=int(client),
        )
        torch.testing.assert_close(found.updates[row], wanted, rtol=1e-4, atol=1e-6)


def test_one_step_written_out() -> None:
    model, threat = make_model(), make_threat("smashed-shift", scale=2.0)
    data, start = make_data(ATTACKERS[:1], np.array([4])), make_model().initial_weights(0)
    settings = TrainingSettings(learning_rate=1.0, batch_size=4)
    found = make_poisoned(model, settings, threat).train(start, data, seed=1, round=3).updates[0]
    leaf = start.clone().requires_grad_()
    named = model.layout.unflatten(leaf)
    smashed = model.client_forward(named, data.inputs)
    received = smashed.detach() + 2.0 * smashed.detach().square().mean().sqrt() * _direction(threat)
    received.requires_grad_()
    sample_losses(model.server_forward(named, received), data.targets).mean().backward()
    smashed.backward(received.grad)
    torch.testing.assert_close(found, -leaf.grad)


def _direction(threat: Threat) -> torch.Tensor:
    ones = torch.ones(1, 1, 7)
    return (threat.poison_smashed(ones, seed=1, round=0, clients=np.array([0]), step=0) - ones)[0, 0] / 2.0


@pytest.mark.parametrize("clients", [CLIENTS, np.array([4, 7]), np.array([1, 5])])
def test_any_company_and_the_rounds_before(clients: np.ndarray) -> None:
    model, threat = make_model(), make_threat("smashed-noise")
    settings = SETTINGS.replace(executor="one-by-one")
    start, counts = model.initial_weights(0), np.full(len(clients), 5)
    poisoned, honest = make_poisoned(model, settings, threat), make_executor(model, settings, torch.device("cpu"))
    data = make_data(clients, counts)
    same = poisoned.train(start, data, seed=1, round=2).updates
    assert torch.equal(same, honest.train(start, data, seed=1, round=2).updates)
    bad = torch.from_numpy(np.isin(clients, ATTACKERS))
    attacked, usual = (each.train(start, data, seed=1, round=3).updates for each in (poisoned, honest))
    assert torch.equal(attacked[~bad], usual[~bad])
    assert not (attacked[bad] == usual[bad]).all(dim=1).any()


def test_a_run_has_it_only_where_smashed_data_are_poisoned() -> None:
    with_attack = small_world(small_config(threat={"attack": "smashed-noise", "clients": 2}))
    assert isinstance(with_attack.executor, PoisonedExecutor)
    assert "attackers one by one" in with_attack.executor.detail
    assert not isinstance(
        small_world(small_config(threat={"attack": "sign-flip", "clients": 2})).executor, PoisonedExecutor
    )
