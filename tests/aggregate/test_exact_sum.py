from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import as_bits
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.aggregate.exact import BLOCK, exact_sum
from hpcfsl.parallel.communicator import SerialCommunicator

RANKS = (1, 2, 3, 4, 8)


def mixed_terms(seed: int, count: int, size: int) -> list[np.ndarray]:
    """Return terms whose magnitudes run from 1e-30 to 1e30, in blocks and within them."""
    rng = np.random.default_rng(seed)
    blocks = 10.0 ** np.repeat(rng.uniform(-30, 30, -(-size // BLOCK)), BLOCK)[:size]
    return [
        rng.normal(size=size) * blocks * 10.0 ** rng.uniform(-12, 0, size) * (rng.random(size) > 0.05)
        for _ in range(count)
    ]


def alone(terms: list[np.ndarray], size: int, planned: int) -> torch.Tensor:
    tensors = [torch.from_numpy(term) for term in terms]
    return exact_sum(tensors, size=size, planned_groups=planned, communicator=SerialCommunicator())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), spare=st.integers(0, 7), size=st.integers(1, 3))
def test_against_fractions_within_the_stated_bound(seed: int, count: int, spare: int, size: int) -> None:
    length = (size - 1) * BLOCK + 70
    terms, planned = mixed_terms(seed, count, length), count + spare
    found = alone(terms, length, planned).numpy()
    headroom = (planned - 1).bit_length()
    rng = np.random.default_rng(seed)
    for coordinate in rng.integers(0, length, 60):
        first = coordinate // BLOCK * BLOCK
        largest = max(np.abs(term[first : first + BLOCK]).max() for term in terms)
        exponent = int(np.frexp(largest)[1])
        exact = sum((Fraction(float(term[coordinate])) for term in terms), Fraction(0))
        integer_bound = planned * Fraction(2) ** (exponent - 63 + headroom)
        rounding = (abs(exact) + integer_bound) * Fraction(1, 2**53)
        assert abs(Fraction(float(found[coordinate])) - exact) <= integer_bound + rounding


def test_small_coordinates_survive_beside_a_block_of_large_ones() -> None:
    term = np.concatenate([np.full(BLOCK, 1e30), np.full(BLOCK, 1e-30)])
    np.testing.assert_allclose(alone([term, term], 2 * BLOCK, 2), 2 * term, rtol=1e-15)


@pytest.mark.parametrize("ranks", RANKS)
def test_same_bits_for_any_placement_and_order(ranks: int) -> None:
    size = BLOCK + 123
    terms = mixed_terms(5, 7, size)
    wanted = as_bits(alone(terms, size, 9))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        home, order = rng.integers(0, ranks, 7), rng.permutation(7)

        def action(
            communicator: ThreadCommunicator, home: np.ndarray = home, order: np.ndarray = order
        ) -> torch.Tensor:
            mine = [torch.from_numpy(terms[term]) for term in order if home[term] == communicator.rank]
            return exact_sum(mine, size=size, planned_groups=9, communicator=communicator)

        assert [as_bits(total) for total in on_ranks(ranks, action)] == [wanted] * ranks


def test_a_dropped_group_changes_no_other_groups_rounding() -> None:
    size = 50
    terms = mixed_terms(1, 3, size)
    zero = [np.zeros(size)]
    assert as_bits(alone(terms, size, 8)) == as_bits(alone([*terms, *zero], size, 8))


def test_no_terms_and_all_zero_terms_sum_to_zero() -> None:
    assert alone([], 5, 3).tolist() == [0.0] * 5
    assert alone([np.zeros(5), -np.zeros(5)], 5, 3).tolist() == [0.0] * 5


def test_the_largest_terms_do_not_overflow_the_integers() -> None:
    for planned in (1, 2, 3, 8, 1000):
        top = np.full(3, np.nextafter(2.0, 0))
        np.testing.assert_allclose(alone([top] * planned, 3, planned), planned * top, rtol=1e-15)


def test_denormal_blocks_are_rounded_away_and_huge_ones_are_not() -> None:
    assert alone([np.full(2, 1e-310)], 2, 1).tolist() == [0.0, 0.0]
    np.testing.assert_allclose(alone([np.full(2, 1e300)], 2, 1), [1e300, 1e300])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_terms_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite terms only"):
        alone([np.array([1.0, bad])], 2, 1)
