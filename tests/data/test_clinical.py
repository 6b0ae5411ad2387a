"""The tables of patients that scikit-learn carries."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes

from hpcfsl.data.sources import sources


def test_diabetes_is_a_number_to_predict() -> None:
    dataset = sources.parse({"source": "diabetes"}).load(0)
    assert (len(dataset), dataset.sample_shape, dataset.num_classes, dataset.num_outputs) == (442, (10,), 0, 1)
    np.testing.assert_array_equal(dataset.targets[:, 0], load_diabetes().target)
    # In years, not in scikit-learn's own scale.
    assert 19 <= dataset.inputs[:, 0].min() < dataset.inputs[:, 0].max() <= 79


def test_breast_cancer_has_two_classes() -> None:
    dataset = sources.parse({"source": "breast-cancer"}).load(0)
    assert (len(dataset), dataset.sample_shape, dataset.num_classes, dataset.owners) == (569, (30,), 2, None)
    np.testing.assert_array_equal(dataset.targets, load_breast_cancer().target)
