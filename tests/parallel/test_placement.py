from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.parallel.placement import place, place_groups

costs = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@given(costs, st.integers(1, 12))
def test_every_group_has_a_rank_and_no_rank_is_overloaded(given_costs: list[int], ranks: int) -> None:
    work = np.array(given_costs, np.int64)
    placed = place_groups(work, ranks)
    assert placed.shape == work.shape
    assert ((placed >= 0) & (placed < ranks)).all()
    loads = np.bincount(placed, weights=work, minlength=ranks)
    # Longest first is within 4/3 of the best (Graham 1969); the best is at least these two.
    at_least = max(work.sum() / ranks, work.max(initial=0), np.sort(work)[::-1][ranks] * 2 if len(work) > ranks else 0)
    assert loads.max() <= max(4 / 3 * at_least, at_least + work.max()) + 1e-9
    assert place_groups(work, ranks).tolist() == placed.tolist()


def test_equal_groups_are_spread_evenly() -> None:
    assert np.bincount(place_groups(np.full(12, 7), 4)).tolist() == [3, 3, 3, 3]


def test_more_ranks_than_groups_leave_some_without() -> None:
    assert len(set(place_groups(np.array([5, 3]), 8).tolist())) == 2


def test_a_long_group_has_a_rank_of_its_own() -> None:
    placed = place_groups(np.array([1, 1, 100, 1]), 2)
    assert (placed == placed[2]).sum() == 1


def test_rotating_moves_every_group_each_round_and_longest_first_none() -> None:
    work = np.array([1, 1, 100, 1])
    rounds = [place("rotating", work, 3, round).tolist() for round in range(4)]
    assert rounds == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2], [0, 1, 2, 0]]
    for round in range(3):
        assert place("longest-first", work, 3, round).tolist() == place_groups(work, 3).tolist()
