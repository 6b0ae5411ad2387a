"""Sources that need no file: the digits and generated data; and what a data set checks of itself."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.errors import ConfigError, DataError


def test_digits_are_the_default() -> None:
    pytest.importorskip("sklearn")
    dataset = sources.parse({}).load(0)
    assert dataset.name == "digits"
    assert dataset.inputs.dtype == np.uint8
    assert dataset.inputs.shape == (1797, 1, 8, 8)
    assert (dataset.inputs.min(), dataset.inputs.max()) == (0, 16)
    assert np.bincount(dataset.targets).min() > 150
    assert len(dataset) == 1797


def test_digits_have_fourteen_writers() -> None:
    pytest.importorskip("sklearn")
    dataset = sources.parse({}).load(0)
    assert dataset.owners is not None
    first_rows = np.flatnonzero(np.diff(dataset.owners, prepend=-1))
    assert first_rows.tolist() == [0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667]
    assert dataset.num_owners == 14
    # The forms were found because all but one start with the digits in order.
    starts = [dataset.targets[row : row + 10].tolist() for row in first_rows]
    assert starts.count(list(range(10))) == 13


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"scikit-learn is missing; run: pip install 'hpcfsl\[data\]'"):
        sources.parse({}).load(0)


def test_digits_of_another_length(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = types.ModuleType("sklearn.datasets")
    fake.load_digits = lambda: types.SimpleNamespace(images=np.zeros((5, 8, 8)), target=np.zeros(5))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", fake)
    with pytest.raises(DataError, match="5 samples, not 1797"):
        sources.parse({}).load(0)


def synthetic(seed: int = 0, **tree: Any) -> Dataset:
    return sources.parse({"source": "synthetic", **tree}).load(seed)


def test_synthetic_data_has_the_shape_asked_for() -> None:
    dataset = synthetic(shape=[3, 4], classes=7, samples=50, test_samples=20, owners=6)
    assert dataset.test_inputs is not None
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.shape == (50, 3, 4)
    assert dataset.test_inputs.shape == (20, 3, 4)
    assert dataset.num_classes == 7
    assert dataset.num_owners == 6
    assert not np.isin(dataset.test_inputs, dataset.inputs).any()


def test_synthetic_data_depends_on_the_seed_alone() -> None:
    np.testing.assert_array_equal(synthetic(5).inputs, synthetic(5).inputs)
    assert not np.array_equal(synthetic(5).inputs, synthetic(6).inputs)


def test_synthetic_classes_can_be_told_apart() -> None:
    dataset = synthetic(shape=[20], samples=400, noise=0.5)
    assert dataset.test_inputs is not None
    centres = np.stack([dataset.inputs[dataset.targets == label].mean(axis=0) for label in range(10)])
    nearest = ((dataset.test_inputs[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == dataset.test_targets).mean() > 0.95


def test_synthetic_data_without_a_test_set_and_with_more_owners_than_samples() -> None:
    dataset = synthetic(samples=4, owners=9, test_samples=0)
    assert dataset.test_inputs is None
    assert dataset.num_owners == 4


@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ({"source": "synthetic", "shape": []}, "data.shape"),
        ({"source": "synthetic", "shape": [0]}, "data.shape.0"),
        ({"source": "synthetic", "samples": 0}, "data.samples"),
        ({"source": "npz"}, "data.file"),
        ({"source": "synthetic-text", "standardise": True}, "data.standardise"),
        ({"source": "synthetic-text", "symbols": 1}, "data.symbols"),
        ({"source": "digit"}, "data.source"),
        ({"standardize": True}, "data.standardize"),
    ],
)
def test_settings_out_of_bounds(tree: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sources.parse(tree)
    assert caught.value.key == key


GOOD: dict[str, Any] = {
    "name": "made",
    "inputs": np.zeros((4, 2)),
    "targets": np.array([0, 1, 0, 1]),
    "owners": np.array([0, 0, 1, 1]),
    "num_classes": 2,
    "test_inputs": np.zeros((1, 2)),
    "test_targets": np.array([1]),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros(4)}, r"inputs have shape \(4,\)"),
        ({"inputs": np.zeros((0, 2)), "targets": np.zeros(0, np.int64)}, r"inputs have shape \(0, 2\)"),
        ({"inputs": np.full((4, 2), "a")}, "inputs have type <U1"),
        ({"inputs": np.array([[0.0, 0], [0, 0], [0, np.nan], [np.inf, 0]])}, "row 2 of inputs"),
        ({"targets": np.array([0, 1, 0])}, r"4 inputs but targets of shape \(3,\)"),
        ({"targets": np.array([0, 1, 2, 0])}, r"row 2 of inputs has class 2; classes must be 0 \.\. 1"),
        ({"targets": np.array([0, -1, 0, 0])}, "row 1 of inputs has class -1"),
        ({"owners": np.array([0, 0, 2, 2])}, "without a gap"),
        ({"owners": np.array([-1, 0, 0, 0])}, "without a gap"),
        ({"owners": np.array([0, 0])}, r"owners of shape \(2,\)"),
        ({"test_inputs": None}, "must be given together"),
        ({"test_inputs": np.zeros((1, 3))}, r"test samples have shape \(3,\), not \(2,\)"),
        ({"test_targets": np.array([5])}, "row 0 of test inputs has class 5"),
        ({"test_targets": np.array([[0, 1]])}, "must both have one class each, or one at each position"),
        ({"targets": np.array([[0, 1], [0, 1], [0, 2], [0, 0]]), "test_targets": np.zeros((1, 2))}, "row 2 of inputs"),
        ({"vocabulary": 3}, r"inputs are float64 \(4, 2\); symbols are integers \[samples, positions\]"),
        ({"vocabulary": 3, "inputs": np.zeros((4, 2, 2), int)}, r"inputs are int64 \(4, 2, 2\); symbols are integers"),
        ({"vocabulary": 3, "inputs": np.array([[0, 1], [2, 3], [0, 0], [4, 0]])}, "row 1 of inputs has symbol 3"),
    ],
)
def test_a_data_set_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^data set made: .*{message}"):
        Dataset(**{**GOOD, **change})


def test_a_data_set_without_owners_and_test_set() -> None:
    dataset = Dataset(**{**GOOD, "owners": None, "test_inputs": None, "test_targets": None})
    assert (dataset.num_owners, dataset.sample_shape, len(dataset)) == (0, (2,), 4)
