from __future__ import annotations

import numpy as np
import pytest
import torch
from support.made import as_bits

from hpcfsl.aggregate.group import GroupOperation, group_operations


def combine(rule: str, updates: np.ndarray, factors: np.ndarray) -> torch.Tensor:
    return group_operations.parse({"rule": rule}).combine(torch.from_numpy(updates.astype(np.float32)), factors)


def test_the_registered_operations() -> None:
    assert group_operations.names() == ["weighted-sum", "winsorised-sum"]


@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_weighted_sum_against_brute_force(count: int) -> None:
    rng = np.random.default_rng(count)
    updates, factors = rng.normal(size=(count, 50)).astype(np.float32), rng.uniform(0, 2, count)
    found = combine("weighted-sum", updates, factors)
    assert found.dtype == torch.float32
    wanted = sum(factor * update.astype(float) for factor, update in zip(factors, updates, strict=True))
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 4, 8, 11])
def test_winsorised_sum_against_brute_force(count: int) -> None:
    rng = np.random.default_rng(count)
    updates, factors = rng.normal(size=(count, 50)).astype(np.float32), rng.uniform(0, 2, count)
    trim = count // 4
    clamped = np.empty_like(updates)
    for column in range(50):
        inner = sorted(updates[:, column])[trim : count - trim]
        clamped[:, column] = np.clip(updates[:, column], inner[0], inner[-1])
    np.testing.assert_allclose(combine("winsorised-sum", updates, factors), factors @ clamped, rtol=1e-5, atol=1e-5)


def test_winsorised_sum_bears_a_quarter_of_the_group() -> None:
    updates = np.ones((8, 5))
    updates[:2] = 1e20
    np.testing.assert_allclose(combine("winsorised-sum", updates, np.full(8, 1 / 8)), np.ones(5))


@pytest.mark.parametrize("rule", ["weighted-sum", "winsorised-sum"])
def test_coordinates_do_not_bear_on_each_other(rule: str) -> None:
    rng = np.random.default_rng(0)
    updates, factors = rng.normal(size=(6, 40)), rng.uniform(0, 2, 6)
    whole = combine(rule, updates, factors)
    assert as_bits(whole[:13].clone()) == as_bits(combine(rule, updates[:, :13], factors))


def test_an_operation_without_combine_says_so() -> None:
    with pytest.raises(AssertionError, match="defines combine"):
        GroupOperation(rule="nameless").combine(torch.ones(1, 1), np.ones(1))
