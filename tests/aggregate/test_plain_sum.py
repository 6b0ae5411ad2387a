"""The float32 sum over groups: what it gives, how far it is from the exact one, and that it says so."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.aggregate import GroupMasses, TargetUpdate, global_aggregations, plain
from hpcfsl.aggregate.plain import float32_weighted_sum, relative_difference, sampled_difference
from hpcfsl.config import load_text
from hpcfsl.errors import ConfigError
from hpcfsl.parallel.communicator import SerialCommunicator

RULES = ("weighted", "geometric-median", "centred-clipping")


def random_rows(count: int, size: int) -> list[torch.Tensor]:
    return [row for row in torch.from_numpy(np.random.default_rng(size).normal(size=(count, size))).float()]


@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_every_product_and_sum_is_rounded_to_float32(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "PIECE", piece)
    rows, factors = random_rows(3, 50), [0.3, -1.7, 0.1]
    found = float32_weighted_sum(rows, factors, size=50, communicator=SerialCommunicator())
    for place in range(50):
        total = np.float32(0)
        for row, factor in zip(rows, factors, strict=True):
            total = total + row[place].numpy() * np.float32(factor)
        assert found[place].item() == total


def test_ranks_add_what_they_have_and_some_have_nothing() -> None:
    rows = random_rows(2, 20)

    def action(communicator: ThreadCommunicator) -> torch.Tensor:
        mine = rows[communicator.rank : communicator.rank + 1]
        return float32_weighted_sum(mine, [0.5] * len(mine), size=20, communicator=communicator)

    for found in on_ranks(4, action):
        assert torch.equal(found, rows[0] * 0.5 + rows[1] * 0.5)


def test_bits_depend_on_who_adds_what() -> None:
    """What the option gives up: with the same groups on other ranks the sum has other bits."""
    rows = random_rows(6, 4000)
    found = set()
    for home in ([0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1]):

        def action(communicator: ThreadCommunicator, home: list[int] = home) -> bytes:
            mine = [row for row, rank in zip(rows, home, strict=True) if rank == communicator.rank]
            total = float32_weighted_sum(mine, [1 / 6] * len(mine), size=4000, communicator=communicator)
            return total.numpy().tobytes()

        found |= set(on_ranks(2, action))
    assert len(found) == 3


@pytest.mark.parametrize("size", [1, 5000, 200_000])
def test_the_difference_is_that_of_the_sample(size: int) -> None:
    rows, factors = random_rows(3, size), [0.2, 0.3, 0.5]
    total = float32_weighted_sum(rows, factors, size=size, communicator=SerialCommunicator())
    exact = sum(row.double() * factor for row, factor in zip(rows, factors, strict=True))
    found = sampled_difference(total, rows, factors, planned_groups=3, communicator=SerialCommunicator())
    assert found < 1e-6
    assert found <= relative_difference(total.numpy(), exact.numpy()) * 1.5
    total[-1] += 2 * exact.abs().max()  # the last block is always among them
    off = sampled_difference(total, rows, factors, planned_groups=3, communicator=SerialCommunicator())
    assert off >= 1.9


def test_nothing_differs_from_nothing_by_nothing() -> None:
    assert relative_difference(np.zeros(3, np.float32), np.zeros(3)) == 0.0


@pytest.mark.parametrize("rule", RULES)
def test_rules_with_a_float32_sum(rule: str) -> None:
    rows, anchor = random_rows(4, 300), torch.zeros(300)

    def aggregate(reduction: str) -> TargetUpdate:
        return global_aggregations.parse({"rule": rule, "reduction": reduction}).aggregate(
            dict(enumerate(rows)),
            GroupMasses(groups=(0, 1, 2, 3), masses=np.array([1.0, 2.0, 3.0, 4.0]), planned=4),
            anchor=anchor,
            communicator=SerialCommunicator(),
        )

    exact, found = aggregate("exact"), aggregate("float32")
    assert found.update.dtype == torch.float32
    np.testing.assert_allclose(found.update, exact.update, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.factors, exact.factors)  # distances are exact either way
    assert 0 < found.difference < 1e-5
    assert math.isnan(exact.difference)


def test_a_sum_that_overflows_is_left_to_the_step_that_refuses_it() -> None:
    rows = [torch.full((3,), 3e38)] * 2
    total = float32_weighted_sum(rows, [1.0, 1.0], size=3, communicator=SerialCommunicator())
    assert total.tolist() == [math.inf] * 3
    difference = sampled_difference(total, rows, [1.0, 1.0], planned_groups=2, communicator=SerialCommunicator())
    assert difference == math.inf


def test_a_median_of_coordinates_has_no_sum_to_choose() -> None:
    text = '[data]\nsource = "synthetic"\n[global_aggregation]\nrule = "coordinate-median"\nreduction = "float32"\n'
    with pytest.raises(ConfigError, match=r"global_aggregation.reduction = 'float32'"):
        load_text(text)
