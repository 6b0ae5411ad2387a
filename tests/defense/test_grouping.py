from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.defense.grouping import Grouping, groupings
from hpcfsl.errors import ConfigError

RULES = ("fixed", "random", "stratified")


def divide(rule: str, clients: np.ndarray, number: int, *, round: int = 0, seed: int = 0) -> list[np.ndarray]:
    samples = 1 + clients % 7
    policy = groupings.parse({"rule": rule, "number": number})
    return list(policy.divide(clients, samples=samples, seed=seed, round=round))


def test_the_registered_policies() -> None:
    assert tuple(groupings.names()) == RULES


@pytest.mark.parametrize("rule", RULES)
@given(st.sets(st.integers(0, 10**7), min_size=2, max_size=60), st.integers(2, 8), st.integers(0, 1000))
def test_every_client_is_in_one_group_in_id_order(rule: str, ids: set[int], number: int, round: int) -> None:
    clients = np.array(sorted(ids), np.int64)
    groups = divide(rule, clients, number, round=round)
    assert len(groups) == number
    assert sorted(np.concatenate(groups).tolist()) == clients.tolist()
    for members in groups:
        assert members.dtype == np.int64
        assert (np.diff(members) > 0).all()
    if rule != "fixed":
        sizes = [len(members) for members in groups]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("rule", RULES)
def test_groups_are_a_function_of_the_seed_and_the_round(rule: str) -> None:
    clients = np.arange(40)
    first, again = divide(rule, clients, 4, round=3, seed=9), divide(rule, clients, 4, round=3, seed=9)
    assert [g.tolist() for g in first] == [g.tolist() for g in again]
    other_seed = divide(rule, clients, 4, round=3, seed=10)
    assert [g.tolist() for g in first] != [g.tolist() for g in other_seed]
    other_round = divide(rule, clients, 4, round=4, seed=9)
    assert ([g.tolist() for g in first] == [g.tolist() for g in other_round]) == (rule == "fixed")


def test_a_fixed_home_does_not_depend_on_who_else_takes_part() -> None:
    everybody = divide("fixed", np.arange(40), 5)
    some = divide("fixed", np.arange(0, 40, 3), 5)
    assert all(set(few) <= set(many) for few, many in zip(some, everybody, strict=True))
    assert {len(members) for members in everybody} == {8}


def test_random_groups_mix_all_pairs_over_rounds() -> None:
    together = np.zeros((12, 12))
    for round in range(400):
        for members in divide("random", np.arange(12), 3, round=round):
            together[np.ix_(members, members)] += 1
    shares = together[~np.eye(12, dtype=bool)] / 400
    # Two given clients share a group of four with chance 3 / 11.
    np.testing.assert_allclose(shares, 3 / 11, atol=0.1)


def test_stratified_groups_weigh_about_the_same() -> None:
    rng = np.random.default_rng(0)
    clients, samples = np.arange(60), rng.integers(1, 500, 60)
    policy = groupings.parse({"rule": "stratified", "number": 4})
    groups = policy.divide(clients, samples=samples, seed=1, round=1)
    totals = [samples[members].sum() for members in groups]
    assert (max(totals) - min(totals)) / np.mean(totals) < 0.1


def test_one_group_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"groups\.number"):
        groupings.parse({"rule": "random", "number": 1})


def test_a_policy_without_divide_says_so() -> None:
    with pytest.raises(AssertionError, match="defines divide"):
        Grouping(rule="nameless").divide(np.arange(4), samples=np.ones(4, np.int64), seed=0, round=0)
