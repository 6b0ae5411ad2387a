"""The sorting network gives the median that sorting gives, bit for bit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.defense.median import BLOCK, _comparators, _merge_exchange, coordinate_median, median_of


def sorted_median(updates: torch.Tensor) -> torch.Tensor:
    ordered, middle = updates.sort(dim=0).values, len(updates) // 2
    return ordered[middle] if len(updates) % 2 else ordered[middle - 1] * 0.5 + ordered[middle] * 0.5


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 70), size=st.sampled_from([1, 5, BLOCK - 1, BLOCK + 3]), seed=st.integers(0, 2**32 - 1))
def test_network_is_the_median_of_a_sort(count: int, size: int, seed: int) -> None:
    updates = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32).round(1) + 0.0)
    before = updates.clone()
    assert torch.equal(coordinate_median(updates), sorted_median(updates))
    assert torch.equal(updates, before)


@pytest.mark.parametrize("count", range(1, 11))
def test_whole_network_sorts_every_pattern_of_zeros_and_ones(count: int) -> None:
    # The 0-1 principle: a network that sorts these sorts everything (Knuth, TAOCP 3, 5.3.4, theorem Z).
    for pattern in itertools.product([0, 1], repeat=count):
        row = list(pattern)
        for low, high in _merge_exchange(count):
            assert low < high
            row[low], row[high] = min(row[low], row[high]), max(row[low], row[high])
        assert row == sorted(pattern)


def test_median_leaves_out_comparisons() -> None:
    assert len(_comparators(25)) < len(list(_merge_exchange(25)))


def test_middle_two_of_the_largest_numbers_do_not_overflow() -> None:
    huge = torch.full((4, 2), 3e38)
    assert torch.equal(coordinate_median(huge), huge[0])


def test_no_coordinates_have_no_median() -> None:
    assert coordinate_median(torch.zeros(3, 0)).shape == (0,)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=9))
def test_median_of_a_few_numbers_is_numpys(values: list[float]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.array_equal(median_of(np.array(values)), np.median(values), equal_nan=True)
        assert np.isnan(median_of(np.array([*values, np.nan])))
