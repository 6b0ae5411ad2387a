"""Distances between groups: right to many digits however near or far, and the same bits on any number of ranks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import as_bits
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.aggregate import geometry
from hpcfsl.aggregate.geometry import block_distances, exchange_slices, gather_slices, pair_distances
from hpcfsl.parallel.communicator import SerialCommunicator

RANKS = (1, 2, 3, 4, 8)


def exact_distances(points: np.ndarray) -> np.ndarray:
    """Return squared distances in exact arithmetic, rounded once: the slow reference."""
    rows = [[Fraction(float(value)) for value in row] for row in points]
    return np.array([[float(sum((a - b) ** 2 for a, b in zip(one, two, strict=True))) for two in rows] for one in rows])


def slow_distances(points: np.ndarray) -> np.ndarray:
    """Return squared distances from differences, for vectors too long for fractions."""
    rows = points.astype(float)
    return np.array([[((one - two) ** 2).sum() for two in rows] for one in rows])


def distances(points: np.ndarray, anchor: np.ndarray, communicator: ThreadCommunicator) -> np.ndarray:
    """Collective. Return the distances of groups 0, 3, 6, ... that the ranks host in turn."""
    groups = [3 * place for place in range(len(points))]
    here = {
        group: torch.from_numpy(points[place])
        for place, group in enumerate(groups)
        if place % communicator.size == communicator.rank
    }
    slices = exchange_slices(here, groups, points.shape[1], communicator)
    whole = gather_slices(slices.rows[0].double(), communicator)
    np.testing.assert_array_equal(whole, points[0])
    return pair_distances(slices, torch.from_numpy(anchor), communicator)


def near_and_far(seed: int, size: int) -> np.ndarray:
    """Return float32 points of which some are nearly equal, some equal, and some are 1e30 away."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=size)
    points = [base * 1e30, base, base, base + 1e-6 * rng.normal(size=size), -base, base * 1e30 + 1e24, base * 1e-30]
    return np.array(points)[rng.permutation(7)].astype(np.float32)


@pytest.mark.parametrize("block", [8, 65_536])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_bits_on_any_ranks_and_right_whatever_the_distance(
    block: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(geometry, "BLOCK", block)
    points, anchor = near_and_far(seed, 83), np.linspace(-1, 1, 83).astype(np.float32)
    results = []
    for ranks in RANKS:
        results += on_ranks(ranks, lambda communicator: distances(points, anchor, communicator))
    assert len({as_bits(found) for found in results}) == 1
    np.testing.assert_allclose(results[0], exact_distances(np.vstack([points, anchor])), rtol=1e-11)
    np.testing.assert_array_equal(results[0], results[0].T)
    assert (np.diag(results[0]) == 0).all()


def test_only_one_matrix_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ranks tell each other does not grow with the length of the vectors."""
    monkeypatch.setattr(geometry, "BLOCK", 8)

    class Counting(SerialCommunicator):
        numbers = 0

        def sum_in_place(self, values: np.ndarray) -> None:
            self.numbers += len(values)

        def max_in_place(self, values: np.ndarray) -> None:
            self.numbers += len(values)

        def gather_all(self, value: list) -> list:
            raise AssertionError("nothing is gathered")

    for size in (8, 800):
        slices = geometry.Slices(rows=torch.randn(4, size), start=0, size=size)
        communicator = Counting()
        pair_distances(slices, torch.zeros(size), communicator)
        assert communicator.numbers == 10 + 10 + 1  # exponents of ten pairs, their sums, and how many were added


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 60))
def test_a_block_against_differences(seed: int, count: int, size: int) -> None:
    """Clusters at any distance: many pairs, few pairs, and none have lost their digits."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(count, size)) * 10.0 ** rng.uniform(-8, 8, (count, 1))
    points = centers[rng.integers(0, 1 + count // int(rng.integers(2, 12)), count)]
    points = (points + rng.normal(size=(count, size)) * 10.0 ** rng.uniform(-12, 0)).astype(np.float32)
    found, above = block_distances(torch.from_numpy(points)), np.triu_indices(count, 1)
    np.testing.assert_allclose(found[above], slow_distances(points)[above], rtol=1e-11)


def test_long_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=150_000)
    points = (base + 1e-4 * rng.normal(size=(4, 150_000))).astype(np.float32)
    slices = geometry.Slices(rows=torch.from_numpy(points), start=0, size=150_000)
    found = pair_distances(slices, torch.zeros(150_000), SerialCommunicator())
    np.testing.assert_allclose(found, slow_distances(np.vstack([points, np.zeros(150_000)])), rtol=1e-11)
