"""Numbers behind the page against slow and obvious ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.report import texts
from hpcfsl.report.drawing import Drawing, choose_scale
from hpcfsl.report.measures import evenly, excluded, rates, roc_auc, rows_by_round, sample, spread

scored = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf, math.nan]), st.booleans()), max_size=30)


@given(scored)
def test_area_under_the_curve_counts_pairs(rows: list[tuple[float, bool]]) -> None:
    pairs = [
        1.0 if bad > good else 0.5 if bad == good else 0.0
        for bad, attacks in rows
        for good, other in rows
        if attacks and not other and not math.isnan(bad) and not math.isnan(good)
    ]
    scores = np.array([score for score, _ in rows], float)
    found = roc_auc(scores, np.array([attacks for _, attacks in rows], np.int8))
    assert math.isnan(found) if not pairs else found == pytest.approx(sum(pairs) / len(pairs))


def test_rates() -> None:
    found = rates(np.array([1, 1, 0, 0, 0]), excluded(np.array([1, 0, 2, 0, 3])))
    assert (found.attackers, found.attackers_excluded, found.honest, found.honest_excluded) == (2, 1, 3, 1)
    assert found.true_positive == 0.5
    nobody = rates(np.zeros(0), np.zeros(0, bool))
    assert math.isnan(nobody.true_positive)
    assert math.isnan(nobody.false_positive)


def test_rounds_without_rows() -> None:
    rows = rows_by_round(np.array([0, 0, 2]), 4)
    assert rows == [slice(0, 2), slice(2, 2), slice(2, 3), slice(3, 3)]
    assert np.isnan(spread(np.array([1.0, np.inf, np.nan]), rows)[1]).tolist() == [False, True, True, True]


@given(st.integers(0, 5000), st.integers(2, 400))
def test_samples_fit_and_stay_the_same(size: int, limit: int) -> None:
    for choose in (sample, evenly):
        found = choose(size, limit)
        assert len(set(found)) == len(found) <= limit
        assert np.array_equal(found, choose(size, limit))
        assert size == 0 or (found.min() >= 0 and found.max() < size)
    assert size == 0 or {0, size - 1} <= set(evenly(size, limit))


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (texts.percent(0.1234), "12.3 %"),
        (texts.percent(None), texts.UNKNOWN),
        (texts.percent(0.0), "0.0 %"),
        (texts.percent(0.0001), "< 0.1 %"),
        (texts.percent(0.001, 0), "< 1 %"),
        (texts.percent(math.nan), texts.UNKNOWN),
        (texts.number(math.inf), "∞"),
        (texts.number(-math.inf), "-∞"),
        (texts.number(None), texts.UNKNOWN),
        (texts.number(0.123456), "0.1235"),
        (texts.byte_size(999), "999 B"),
        (texts.byte_size(0), "0 B"),
        (texts.byte_size(1_234_000), "1.23 MB"),
        (texts.byte_size(5e18), "5e+03 PB"),
        (texts.duration(0.0123), "12.3 ms"),
        (texts.duration(61.2), "61.2 s"),
        (texts.duration(200), "3 min 20 s"),
        (texts.duration(7300), "2 h 01 min"),
        (texts.duration(math.nan), texts.UNKNOWN),
    ],
)
def test_numbers_as_texts(found: str, text: str) -> None:
    assert found == text


@pytest.mark.parametrize(
    ("values", "scale"), [([1.0, 2.0], "linear"), ([0.01, 5.0], "log"), ([0.0], "linear"), ([], "linear")]
)
def test_scales(values: list[float], scale: str) -> None:
    axes = Drawing("test").panels[0]
    choose_scale(axes, np.array(values))
    assert axes.get_yscale() == scale


def test_a_drawing_without_labels_has_no_legend() -> None:
    drawing = Drawing("bare", 2)
    assert "<svg" in drawing.svg()
    assert not drawing.figure.legends
