"""Metrics against scikit-learn, and sums of parts against the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from hpcfsl.training.metrics import Predictions, add_up, measure, measure_clients, perplexity, tally

CLASSES = 5
classes = st.integers(0, CLASSES - 1)
pairs = st.lists(st.tuples(classes, classes), min_size=1, max_size=40)


def of_classes(pairs: list[tuple[int, int]]) -> Predictions:
    outputs, targets = np.array(pairs).T
    return Predictions(outputs=outputs, targets=targets, losses=np.arange(len(pairs)) / 7)


def of_numbers(count: int, outputs: int, seed: int) -> Predictions:
    drawn = np.random.default_rng(seed)
    targets = drawn.normal(size=(count, outputs))
    return Predictions(
        outputs=targets + drawn.normal(size=(count, outputs)), targets=targets, losses=drawn.random(count)
    )


def take(found: Predictions, rows: Any) -> Predictions:
    return Predictions(outputs=found.outputs[rows], targets=found.targets[rows], losses=found.losses[rows])


@given(pairs)
def test_classes_as_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    found = of_classes(pairs)
    got = measure(tally(found, CLASSES), scale=None, sequences=False)
    assert list(got) == ["accuracy", "macro-f1", "loss"]
    assert got["accuracy"] == sklearn.accuracy_score(found.targets, found.outputs)
    wanted = sklearn.f1_score(found.targets, found.outputs, average="macro", zero_division=0.0)
    assert got["macro-f1"] == pytest.approx(wanted)
    assert got["loss"] == pytest.approx(found.losses.mean())


@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_numbers_as_scikit_learn(count: int, outputs: int, seed: int) -> None:
    found, drawn = of_numbers(count, outputs, seed), np.random.default_rng(seed)
    scale, shift = 10 ** drawn.uniform(-3, 3, outputs), drawn.normal(0, 1000, outputs)
    got = measure(tally(found, 0), scale=scale, sequences=False)
    targets, predicted = (values * scale + shift for values in (found.targets, found.outputs))
    assert got["mae"] == pytest.approx(sklearn.mean_absolute_error(targets, predicted))
    assert got["rmse"] == pytest.approx(math.sqrt(sklearn.mean_squared_error(targets, predicted)))
    assert got["r2"] == pytest.approx(sklearn.r2_score(targets, predicted), rel=1e-6)
    assert got["loss"] == pytest.approx(found.losses.mean())


@given(pairs, st.integers(0, 40))
def test_counts_of_parts_add_up_to_those_of_the_whole(pairs: list[tuple[int, int]], cut: int) -> None:
    found = of_classes(pairs)
    total = add_up([tally(take(found, slice(0, cut)), CLASSES), tally(take(found, slice(cut, None)), CLASSES)])
    whole = tally(found, CLASSES)
    assert total.count == whole.count
    np.testing.assert_array_equal(total.counts, whole.counts)
    assert total.loss == pytest.approx(whole.loss)


@given(st.lists(pairs, min_size=1, max_size=6))
def test_each_client_has_the_metrics_of_its_own_samples(parts: list[list[tuple[int, int]]]) -> None:
    counts, clients = np.array([len(part) for part in parts]), 3 * np.arange(len(parts))
    rows = measure_clients(of_classes([pair for part in parts for pair in part]), clients, counts, None)
    for place, part in enumerate(parts):
        alone = of_classes(part)
        wanted = measure(tally(alone, CLASSES), scale=None, sequences=False)
        assert rows["client"][place] == 3 * place
        assert rows["num_samples"][place] == len(part)
        assert rows["num_correct"][place] == (alone.outputs == alone.targets).sum()
        assert rows["accuracy"][place] == wanted["accuracy"]
        assert rows["macro_f1"][place] == pytest.approx(wanted["macro-f1"])
        assert np.isnan(rows["mae"][place])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_each_client_has_the_errors_of_its_own_samples(counts: list[int], outputs: int, seed: int) -> None:
    found, scale = of_numbers(sum(counts), outputs, seed), np.linspace(0.5, 40, outputs)
    rows = measure_clients(found, np.arange(len(counts)), np.array(counts), scale)
    ends = np.cumsum(counts)
    for place, count in enumerate(counts):
        alone = take(found, slice(ends[place] - count, ends[place]))
        wanted = measure(tally(alone, 0), scale=scale, sequences=False)
        for name in ("mae", "rmse", "r2", "loss"):
            assert rows[name][place] == pytest.approx(wanted[name], nan_ok=True, rel=1e-6)
        assert (rows["num_samples"][place], rows["num_correct"][place]) == (count, 0)
        assert np.isnan(rows["accuracy"][place])


def test_positions_count_one_by_one() -> None:
    outputs, targets = np.array([[1, 2, 3], [3, 3, 3]]), np.array([[1, 2, 0], [3, 0, 3]])
    found = Predictions(outputs=outputs, targets=targets, losses=np.array([3.0, 9.0]))
    got = measure(tally(found, 4), scale=None, sequences=True)
    assert got["accuracy"] == 4 / 6
    assert (got["loss"], got["perplexity"]) == (2.0, math.exp(2.0))
    rows = measure_clients(found, np.array([4, 5]), np.array([1, 1]), None)
    assert rows["num_samples"].tolist() == [3, 3]
    assert rows["loss"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize("level", [0.0, 0.1, 1e6, -3e-9])
def test_equal_numbers_have_no_r2(level: float) -> None:
    targets: NDArray[np.float64] = np.full((7, 2), level)
    found = Predictions(outputs=targets + 1, targets=targets, losses=np.ones(7))
    got = measure(tally(found, 0), scale=np.ones(2), sequences=False)
    assert math.isnan(got["r2"])
    assert got["mae"] == pytest.approx(1.0)


def test_an_output_without_spread_does_not_count_in_r2() -> None:
    targets = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    found = Predictions(outputs=targets + np.array([0.5, 1.0]), targets=targets, losses=np.ones(3))
    got = measure(tally(found, 0), scale=np.ones(2), sequences=False)
    assert got["r2"] == pytest.approx(sklearn.r2_score(targets[:, 0], targets[:, 0] + 0.5))


def test_a_perplexity_beyond_all_numbers_is_infinite() -> None:
    assert perplexity(1e4) == math.inf
