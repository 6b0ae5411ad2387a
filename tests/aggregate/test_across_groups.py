from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made import as_bits
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.aggregate import GroupMasses, geometry, global_aggregations
from hpcfsl.aggregate.across import GlobalAggregation, TargetUpdate
from hpcfsl.aggregate.geometry import slice_bounds
from hpcfsl.parallel.communicator import SerialCommunicator

RULES = ("centred-clipping", "coordinate-median", "geometric-median", "weighted")
RANKS = (1, 2, 3, 4, 8)
rounds = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 40))


def make_rule(rule: str, **changes: Any) -> GlobalAggregation:
    return global_aggregations.parse({"rule": rule, **changes})


def aggregate(
    rule: GlobalAggregation, points: np.ndarray, masses: np.ndarray, anchor: np.ndarray | None = None
) -> TargetUpdate:
    updates = {2 * g + 1: torch.from_numpy(np.asarray(point, np.float32)) for g, point in enumerate(points)}
    start = np.zeros(points.shape[1]) if anchor is None else anchor
    return rule.aggregate(
        updates,
        GroupMasses(groups=tuple(updates), masses=np.asarray(masses, float), planned=len(points) + 2),
        anchor=torch.from_numpy(start.astype(np.float32)),
        communicator=SerialCommunicator(),
    )


def random_groups(seed: int, count: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=size) + rng.normal(size=(count, size))).astype(np.float32).astype(float)
    return points, rng.uniform(1, 100, count), rng.normal(size=size).astype(np.float32).astype(float)


def test_the_registered_rules() -> None:
    assert tuple(global_aggregations.names()) == RULES


@settings(max_examples=30, deadline=None)
@given(rounds)
def test_weighted_mean_against_brute_force(drawn: tuple[int, int, int]) -> None:
    points, masses, _ = random_groups(*drawn)
    found = aggregate(make_rule("weighted"), points, masses)
    np.testing.assert_allclose(found.update, masses @ points / masses.sum(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.factors, masses / masses.sum())
    equal = aggregate(make_rule("weighted", masses="equal"), points, masses)
    np.testing.assert_allclose(equal.update, points.mean(axis=0), rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(rounds)
def test_coordinate_median_against_brute_force(drawn: tuple[int, int, int]) -> None:
    points, masses, _ = random_groups(*drawn)
    found = aggregate(make_rule("coordinate-median"), points, masses)
    np.testing.assert_allclose(found.update, np.median(points, axis=0), rtol=1e-6, atol=1e-7)
    assert np.isnan(found.factors).all()


@settings(max_examples=30, deadline=None)
@given(rounds, st.sampled_from([0.0, 0.5, 3.0, 1e6]))
def test_centred_clipping_against_brute_force(drawn: tuple[int, int, int], radius: float) -> None:
    points, masses, anchor = random_groups(*drawn)
    found = aggregate(make_rule("centred-clipping", radius=radius), points, masses, anchor)
    lengths = np.linalg.norm(points - anchor, axis=1)
    longest = radius or np.median(lengths)
    moves = [(p - anchor) * min(1.0, longest / length) for p, length in zip(points, lengths, strict=True)]
    np.testing.assert_allclose(found.update, anchor + masses @ moves / masses.sum(), rtol=1e-6, atol=1e-6)
    assert np.linalg.norm(found.update.numpy() - anchor) <= longest * (1 + 1e-6)


def test_centred_clipping_stays_at_the_anchor_when_all_groups_are_there() -> None:
    anchor = np.arange(4.0)
    found = aggregate(make_rule("centred-clipping"), np.tile(anchor, (3, 1)), np.ones(3), anchor)
    np.testing.assert_allclose(found.update, anchor)


@settings(max_examples=40, deadline=None)
@given(rounds)
def test_geometric_median_meets_the_first_order_condition(drawn: tuple[int, int, int]) -> None:
    points, masses, _ = random_groups(*drawn)
    found = aggregate(make_rule("geometric-median"), points, masses).update.numpy()
    masses = masses / masses.sum()
    gaps = points - found
    lengths = np.linalg.norm(gaps, axis=1)
    spread = max(np.linalg.norm(points - point, axis=1).max() for point in points)
    near = int(lengths.argmin())
    away = np.arange(len(points)) != near
    pull = masses[away] @ (gaps[away] / np.maximum(lengths[away], 1e-300)[:, None])
    if lengths[near] > 1e-2 * spread:  # nearer to a group the algorithm takes many thousands of steps
        # In the open the unit vectors to the groups, weighted by mass, cancel.
        assert np.linalg.norm(pull + masses[near] * gaps[near] / lengths[near]) < 1e-3
    else:
        # At a group the others together pull no harder than its mass holds.
        assert np.linalg.norm(pull) <= masses[near] + 2e-2


@settings(max_examples=30, deadline=None)
@given(rounds)
def test_geometric_median_is_no_worse_than_any_group_or_the_mean(drawn: tuple[int, int, int]) -> None:
    points, masses, _ = random_groups(*drawn)

    def cost(place: np.ndarray) -> float:
        return float(masses @ np.linalg.norm(points - place, axis=1))

    found = aggregate(make_rule("geometric-median"), points, masses).update.numpy()
    others = [*points, masses @ points / masses.sum(), np.median(points, axis=0)]
    assert cost(found) <= min(map(cost, others)) * (1 + 1e-4)


def test_geometric_median_known_optima() -> None:
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [2.0, 2 * np.sqrt(3)]])
    rule = make_rule("geometric-median")
    np.testing.assert_allclose(aggregate(rule, triangle, np.ones(3)).update, triangle.mean(axis=0), atol=1e-6)
    # A mass of more than half holds the median at its own place.
    np.testing.assert_allclose(aggregate(rule, triangle, np.array([6.0, 1, 1])).update, triangle[0], atol=1e-4)
    line = np.array([[0.0], [1.0], [10.0]])
    np.testing.assert_allclose(aggregate(rule, line, np.ones(3)).update, [1.0], atol=1e-3)
    corners = np.array([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    np.testing.assert_allclose(aggregate(rule, corners, np.ones(4)).update, [0, 0], atol=1e-6)


def test_geometric_median_of_equal_groups_is_that_group() -> None:
    found = aggregate(make_rule("geometric-median"), np.tile(np.arange(3.0), (4, 1)), np.arange(1.0, 5.0))
    np.testing.assert_allclose(found.update, np.arange(3.0), atol=1e-9)


def test_geometric_median_stops_at_its_limit_of_iterations() -> None:
    points, masses, _ = random_groups(3, 5, 10)
    one = aggregate(make_rule("geometric-median", max_iterations=1), points, masses)
    mean = masses @ points / masses.sum()
    pulls = masses / np.linalg.norm(points - mean, axis=1)
    np.testing.assert_allclose(one.factors, pulls / pulls.sum(), rtol=1e-6)


def test_geometric_median_bears_a_captured_minority_and_the_mean_does_not() -> None:
    points, _, _ = random_groups(0, 5, 30)
    center = points[:4].mean(axis=0)
    points[4] = -1e6 * center
    robust = aggregate(make_rule("geometric-median"), points, np.ones(5)).update.numpy()
    plain = aggregate(make_rule("weighted"), points, np.ones(5)).update.numpy()
    diameter = np.linalg.norm(points[:4, None] - points[None, :4], axis=2).max()
    assert np.linalg.norm(robust - center) < diameter
    assert np.linalg.norm(plain - center) > 1e4 * diameter


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=20, deadline=None)
@given(rounds)
def test_rules_follow_shifts_scales_and_permutations(rule: str, drawn: tuple[int, int, int]) -> None:
    points, masses, anchor = random_groups(*drawn)
    chosen = make_rule(rule)
    wanted = aggregate(chosen, points, masses, anchor).update.numpy()
    shift = np.arange(points.shape[1]) - 3.0
    moved = aggregate(chosen, points + shift, masses, anchor + shift).update.numpy()
    np.testing.assert_allclose(moved, wanted + shift, rtol=1e-3, atol=1e-3)
    scaled = aggregate(chosen, 16 * points, masses, 16 * anchor).update.numpy()
    np.testing.assert_allclose(scaled, 16 * wanted, rtol=1e-6, atol=1e-6)
    order = np.random.default_rng(drawn[0]).permutation(len(points))
    shuffled = aggregate(chosen, points[order], masses[order], anchor).update.numpy()
    np.testing.assert_allclose(shuffled, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_any_number_of_ranks_gives_the_same_bits(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "BLOCK", 16)
    points, masses, anchor = random_groups(4, 6, 150)
    chosen = make_rule(rule)
    results = set()
    for ranks in RANKS:
        for seed in range(2):
            home = np.random.default_rng(seed).integers(0, ranks, 6)

            def action(communicator: ThreadCommunicator, home: np.ndarray = home) -> TargetUpdate:
                mine = {
                    g: torch.from_numpy(points[g].astype(np.float32)) for g in range(6) if home[g] == communicator.rank
                }
                return chosen.aggregate(
                    mine,
                    GroupMasses(groups=tuple(range(6)), masses=masses, planned=6),
                    anchor=torch.from_numpy(anchor.astype(np.float32)),
                    communicator=communicator,
                )

            results |= {as_bits(found.update) + as_bits(found.factors) for found in on_ranks(ranks, action)}
    assert len(results) == 1


@given(st.integers(1, 10**7), st.integers(1, 64))
def test_slices_are_runs_of_whole_blocks(size: int, ranks: int) -> None:
    bounds = slice_bounds(size, ranks)
    assert bounds[0] == 0
    assert bounds[-1] == size
    assert len(bounds) == ranks + 1
    assert all(low <= high for low, high in pairwise(bounds))
    assert all(bound % geometry.BLOCK == 0 for bound in bounds[:-1] if bound < size)


def test_a_rule_without_weigh_says_so() -> None:
    with pytest.raises(AssertionError, match="defines weigh"):
        GlobalAggregation(rule="nameless").weigh(np.ones(2), None)
