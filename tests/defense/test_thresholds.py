from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.defense.threshold import Threshold, exclude, thresholds

RULES = ("mad", "mean-std", "none", "quantile")
credits = st.lists(st.one_of(st.floats(0, 1e6), st.sampled_from([0.0, 1.0, np.inf])), min_size=1, max_size=15)
shares = st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 0.7, 0.99, 1.0])


def make_rule(rule: str, **changes: object) -> Threshold:
    return thresholds.parse({"rule": rule, **changes})


def test_the_registered_thresholds() -> None:
    assert tuple(thresholds.names()) == RULES


def test_rules_against_their_formulas() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    assert make_rule("mad", k=2.0).compute(values) == pytest.approx(3 + 2 * 1.4826 * 1)
    assert make_rule("mad", k=2.0, floor=1.0).compute(values) == pytest.approx(3 + 2 * 1.4826 * 3)
    assert make_rule("mean-std", k=2.0).compute(values) == pytest.approx(values.mean() + 2 * values.std())
    assert make_rule("quantile", q=0.6).compute(values) == pytest.approx(np.quantile(values, 0.6))
    assert make_rule("none").compute(values) == np.inf


@given(credits, st.sampled_from(RULES), shares, st.one_of(st.none(), credits))
def test_excluded_means_above_the_effective_threshold(
    credit: list[float], rule: str, share: float, pool: list[float] | None
) -> None:
    values = np.array(credit)
    seen = None if pool is None else np.concatenate([values, pool])
    found = exclude(make_rule(rule, max_excluded=share), values, seen)
    finite = np.isfinite(values)
    assert (found.kept[finite] == ~(values[finite] > found.threshold)).all()
    assert not found.kept[~finite].any()
    assert found.threshold >= found.raw_threshold or not finite.sum() > 1
    excluded = (finite & ~found.kept).sum()
    if share < 1 and finite.any():
        assert excluded < share * finite.sum()
    if finite.sum() <= 2:
        assert excluded == 0


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=12), st.lists(st.floats(0, 1e9), max_size=12))
def test_strictly_less_than_half_is_excluded_by_raising_the_threshold(own: list[float], pool: list[float]) -> None:
    credit = np.array(own)
    found = exclude(make_rule("mad", k=0.01, floor=0.0), credit, np.array([*own, *pool]))
    assert (~found.kept).sum() < len(own) / 2
    if found.threshold > found.raw_threshold:
        # Raised to a client's own score and no further: one client lower would have been too many.
        assert found.threshold in credit
        lower = (credit >= found.threshold).sum()
        assert lower >= len(own) / 2


@pytest.mark.parametrize("rule", RULES)
@given(st.floats(0, 1e300), st.integers(1, 20))
def test_equal_scores_exclude_nobody(rule: str, value: float, count: int) -> None:
    assert exclude(make_rule(rule), np.full(count, value)).kept.all()


@given(st.lists(st.floats(0, 100), min_size=3, max_size=10))
def test_non_finite_scores_bear_on_no_threshold(credit: list[float]) -> None:
    for rule in RULES:
        alone = exclude(make_rule(rule), np.array(credit))
        mixed = exclude(make_rule(rule), np.array([*credit, np.inf, np.inf]))
        assert alone.raw_threshold == mixed.raw_threshold
        assert alone.threshold == mixed.threshold
        assert mixed.kept.tolist() == [*alone.kept.tolist(), False, False]


def test_a_pool_sets_the_scale_that_a_captured_group_hides() -> None:
    credit = np.array([1.0, 5.0, 5.0, 5.2, 5.1])
    pool = np.concatenate([credit, np.linspace(0.9, 1.1, 20)])
    rule = make_rule("mad", max_excluded=1.0)
    assert exclude(rule, credit).kept.sum() >= 4
    assert exclude(rule, credit, pool).kept.tolist() == [True, False, False, False, False]


def test_nobody_finite_gives_no_scale() -> None:
    found = exclude(make_rule("mad"), np.array([np.inf, np.inf]))
    assert found.raw_threshold == np.inf
    assert not found.kept.any()


def test_the_mad_is_not_moved_by_less_than_half_of_the_scores() -> None:
    honest = np.linspace(0.9, 1.1, 11)
    found = exclude(make_rule("mad"), np.append(honest, np.full(5, 1e6)))
    assert found.kept.tolist() == [True] * 11 + [False] * 5


def test_a_rule_without_compute_says_so() -> None:
    with pytest.raises(AssertionError, match="defines compute"):
        Threshold(rule="nameless").compute(np.ones(2))
