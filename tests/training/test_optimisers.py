from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError
from hpcfsl.training.optimisers import LocalOptimiser
from hpcfsl.training.settings import TrainingSettings

SHAPES = ((3, 2), (4,), (1, 2, 2))


def make_stack(clients: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in SHAPES]
    return [each.expand(clients, *each.shape).clone() for each in start], start


def make_optimiser(weights: list[Tensor], start: list[Tensor], **settings: Any) -> LocalOptimiser:
    rows = [each.view(len(each), -1) for each in weights]
    return LocalOptimiser(TrainingSettings(**settings), rows, [each.flatten() for each in start])


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({}, lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
        (
            {"momentum": 0.9, "weight_decay": 0.1},
            lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
        ),
        ({"optimizer": "adam"}, lambda parameters: torch.optim.Adam(parameters, lr=0.1)),
        (
            {"optimizer": "adam", "adam_beta1": 0.5, "adam_beta2": 0.9, "adam_epsilon": 1e-3, "weight_decay": 0.1},
            lambda parameters: torch.optim.Adam(parameters, lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1),
        ),
    ],
)
def test_ragged_clients_step_like_torchs_optimisers(settings: dict[str, Any], make: Any) -> None:
    weights, start = make_stack(3)
    ours = make_optimiser(weights, start, learning_rate=0.1, **settings)
    theirs = [[each[row].clone() for each in weights] for row in range(3)]
    optimisers = [make(parameters) for parameters in theirs]
    generator = torch.Generator().manual_seed(1)
    for active in (3, 3, 2, 2, 1):
        gradients = [torch.randn((active, *shape), generator=generator) for shape in SHAPES]
        ours.step(gradients, active)
        for row in range(active):
            for parameter, gradient in zip(theirs[row], gradients, strict=True):
                parameter.grad = gradient[row]
            optimisers[row].step()
    for row in range(3):
        for found, wanted in zip(weights, theirs[row], strict=True):
            np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-6)


def test_clipping_is_torchs_for_each_client() -> None:
    weights, start = make_stack(3)
    gradients = [
        torch.randn(3, *shape) * torch.tensor([0.0, 0.01, 10.0]).view(3, *(1,) * len(shape)) for shape in SHAPES
    ]
    before = [each.clone() for each in gradients]
    make_optimiser(weights, start, learning_rate=1.0, clip_norm=0.5).step(gradients, 3)
    assert all(torch.equal(each, kept) for each, kept in zip(gradients, before, strict=True))
    for row in range(3):
        parameters = [torch.zeros(shape) for shape in SHAPES]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient[row].clone()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        for weight, began, parameter in zip(weights, start, parameters, strict=True):
            np.testing.assert_allclose(began - weight[row], parameter.grad, rtol=1e-4, atol=1e-6)


@given(st.floats(0.01, 10.0), st.floats(0.001, 0.09))
def test_the_proximal_term_pulls_back_to_the_start(mu: float, rate: float) -> None:
    weights, start = make_stack(2)
    for each in weights:
        each += 1.0
    optimiser = make_optimiser(weights, start, learning_rate=rate, proximal=mu)
    optimiser.step([torch.zeros_like(each) for each in weights], 2)
    for weight, began in zip(weights, start, strict=True):
        np.testing.assert_allclose(weight - began, torch.full_like(weight, 1 - rate * mu), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"optimizer": "adam"}])
def test_reset_forgets_all_that_a_step_changes(settings: dict[str, Any]) -> None:
    weights, start = make_stack(2)
    optimiser = make_optimiser(weights, start, **settings)
    fresh = [each.clone() for each in optimiser.state()]
    optimiser.step([torch.ones_like(each[:1]) for each in weights], 1)
    assert any(not torch.equal(each, wanted) for each, wanted in zip(optimiser.state(), fresh, strict=True))
    optimiser.reset()
    assert all(torch.equal(each, wanted) for each, wanted in zip(optimiser.state(), fresh, strict=True))


def test_momentum_with_adam_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.momentum = 0\.5: belongs to optimizer 'sgd'"):
        resolve({"training": {"optimizer": "adam", "momentum": 0.5}})
