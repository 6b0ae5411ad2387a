"""Two small tables of patients that scikit-learn carries: `diabetes`, with a number to predict, and `breast-cancer`.

`diabetes`: ten measurements of 442 patients and how far the disease went in a year, 25 .. 346 (Efron et al., "Least
angle regression", Annals of Statistics 32, 2004). `breast-cancer`: thirty measurements of cell nuclei of 569 tumours,
benign or malignant (Street, Wolberg and Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993).
Neither says which hospital a patient was in, so clients are made by a partition. Choose them to try out regression or
tables.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.errors import DataError


@sources.register
class Diabetes(Source):
    """scikit-learn's diabetes table: how far the disease will have gone in a year."""

    source: Literal["diabetes"] = "diabetes"
    """442 patients with ten measurements each and a number to predict; no natural clients."""

    def load(self, seed: int) -> Dataset:
        """Return the patients in the units they were measured in, float64 [442, 10]; `seed` changes nothing."""
        inputs, targets = _read("diabetes", scaled=False)
        return _make("diabetes", inputs, targets[:, None].astype(np.float64), num_classes=0)


@sources.register
class BreastCancer(Source):
    """scikit-learn's breast cancer table: benign or malignant."""

    source: Literal["breast-cancer"] = "breast-cancer"
    """569 tumours with thirty measurements each, malignant (0) or benign (1); no natural clients."""

    def load(self, seed: int) -> Dataset:
        """Return the tumours, float64 [569, 30]; `seed` changes nothing."""
        inputs, targets = _read("breast_cancer")
        return _make("breast-cancer", inputs, targets.astype(np.int64), num_classes=2)


def _read(name: str, **options: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        from sklearn import datasets
    except ImportError:
        source = name.replace("_", "-")
        raise DataError(f"data.source = {source!r}: scikit-learn is missing; run: pip install 'hpcfsl[data]'") from None
    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
    return inputs, targets


def _make(name: str, inputs: NDArray[Any], targets: NDArray[Any], *, num_classes: int) -> Dataset:
    return Dataset(
        name=name,
        inputs=inputs,
        targets=targets,
        owners=None,
        num_classes=num_classes,
        test_inputs=None,
        test_targets=None,
    )
