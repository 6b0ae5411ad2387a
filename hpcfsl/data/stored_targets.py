"""Targets of which only the type that they are stored as says what they are: integers classes, floats numbers.

Layer 1. That is so of plain arrays (`npz`, `hdf5`, arrays of the Python interface), and often by accident: many
programs store class labels as 0.0, 1.0, 2.0. `hpcfsl.targets` decides which of the functions here is called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset, count_classes, numbers_to_predict
from hpcfsl.data.sources.files import MAX_CLASSES
from hpcfsl.errors import DataError


def look_like_classes(dataset: Dataset) -> bool:
    """Return whether numbers, one a sample, are 0.0, 1.0, ... without a gap, with at least two of them."""
    if dataset.num_outputs != 1:
        return False
    values = np.concatenate([part.reshape(-1) for part in _parts(dataset)])
    if _first_bad(values) is not None:
        return False
    counts = np.bincount(values.astype(np.int64))
    return len(counts) > 1 and bool(counts.all())


def as_classes(dataset: Dataset) -> Dataset:
    """Return a data set of numbers with each taken for a class, int64 [n], or [n, positions] for sequences of symbols.

    Raises:
        DataError: One of them is no class; the text names the row.
    """
    train, *test = (_to_classes(dataset, part) for part in _parts(dataset))
    largest = max(int(part.max()) for part in (train, *test))
    return replace(
        dataset,
        targets=train,
        test_targets=test[0] if test else None,
        num_classes=count_classes(largest, train.shape[1:], dataset.vocabulary),
    )


def as_numbers(dataset: Dataset) -> Dataset:
    """Return a data set of classes, one a sample, with each taken for a number to predict, float64 [n, 1]."""
    train, *test = (numbers_to_predict(part.astype(np.float64)) for part in _parts(dataset))
    return replace(dataset, targets=train, test_targets=test[0] if test else None, num_classes=0)


def _parts(dataset: Dataset) -> list[NDArray[Any]]:
    return [part for part in (dataset.targets, dataset.test_targets) if part is not None]


def _to_classes(dataset: Dataset, numbers: NDArray[Any]) -> NDArray[np.int64]:
    positions = dataset.sample_shape if dataset.vocabulary else ()
    if numbers.shape[1] > 1 and numbers.shape[1:] != positions:
        found = f"{numbers.shape[1]} numbers a sample; a class is one (of one-hot rows, numpy.argmax(y, axis=1))"
        raise DataError(f"data set {dataset.name}: the targets are {found}")
    bad = _first_bad(numbers)
    if bad is not None:
        found = f"row {bad[0]} of the targets is {numbers[bad]}; classes are whole numbers 0, 1, 2, ..."
        raise DataError(f"data set {dataset.name}: {found}")
    return (numbers if numbers.shape[1] > 1 else numbers[:, 0]).astype(np.int64)


def _first_bad(numbers: NDArray[Any]) -> tuple[int, ...] | None:
    """Return the place of the first number that is no class; None where all are."""
    bad = (numbers != np.floor(numbers)) | (numbers < 0) | (numbers >= MAX_CLASSES)
    return tuple(map(int, np.argwhere(bad)[0])) if bad.any() else None
