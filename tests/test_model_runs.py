"""Whole runs of a model of each kind: split as the protocol splits, they end where the run that is not split ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.model_cases import CASES

import hpcfsl

RUNS = ["resnet18", "speech-gru", "speech-cnn1d-frames", "transformer-lm", "lstm-lm", "sentence-classifier", "tcn"]
RUNS += ["gru-forecast-numbers", "tcn-numbers"]


@pytest.mark.parametrize("name", RUNS)
def test_a_split_run_ends_where_the_unsplit_run_ends(tmp_path: Path, name: str) -> None:
    inputs, targets = (each.numpy() for each in CASES[name].batch(24))

    def losses(protocol: str) -> Any:
        tree = {
            "run": {"rounds": 2, "device": "cpu"},
            "partition": {"rule": "iid", "clients": 4},
            "groups": {"number": 2},
            "model": {key: value for key, value in CASES[name].tree.items() if key != "dropout"},
            "protocol": {"name": protocol},
            "training": {"batch_size": 3, "learning_rate": 0.05},
        }
        vocabulary = CASES[name].samples.vocabulary
        run = hpcfsl.run(tree, out=tmp_path / protocol, inputs=inputs, targets=targets, vocabulary=vocabulary)
        return run.column("rounds", "test_loss")

    split, whole = losses("splitfed-v1"), losses("fedavg")
    assert np.isfinite(whole).all()
    assert whole[0] != whole[1]
    np.testing.assert_allclose(split, whole, rtol=1e-4)
