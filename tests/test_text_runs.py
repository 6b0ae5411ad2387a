"""Whole runs on text: a language model with attackers, scores, exclusion, trace and report; one's own symbols."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import hpcfsl
from hpcfsl.errors import UserError
from hpcfsl.models.recurrent import Gru
from hpcfsl.report import render
from hpcfsl.trace.digest import digest

SYMBOLS, POSITIONS = 12, 10


def settings(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    data = {"source": "synthetic-text", "symbols": SYMBOLS, "branches": 2, "positions": POSITIONS}
    return {
        "run": {"rounds": 6, "device": "cpu"},
        "data": {**data, "samples": 360, "test_samples": 60, "owners": 12},
        "model": {"name": "gru-lm", "hidden": 16},
        "training": {"learning_rate": 2.0, "batch_size": 8},
        "groups": {"number": 2},
        "evaluation": {"clients_every": 3},
        **sections,
    }


def test_a_language_model_learns_under_attack(tmp_path: Path) -> None:
    run = hpcfsl.run(settings(threat={"attack": "sign-flip", "clients": 2}), out=tmp_path / "run")
    loss, accuracy = run.column("rounds", "test_loss"), run.column("rounds", "test_accuracy")
    assert loss[0] < np.log(SYMBOLS) * 1.1
    assert np.exp(loss[-1]) < 0.7 * SYMBOLS
    assert accuracy[-1] > 2 / SYMBOLS
    assert 2 * run.column("rounds", "num_attackers_excluded").sum() > run.column("rounds", "num_attackers").sum()
    labels = run.column("participation", "bytes_labels_up")
    np.testing.assert_array_equal(labels, run.column("participation", "num_samples") * POSITIONS * 8)
    tested = run.column("evaluation", "num_samples")
    assert (tested == 6 * POSITIONS).all()
    assert "accuracy" in render([run], tmp_path / "report.html").read_text()


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
def test_flipped_labels_and_dropout_in_a_module_of_ones_own(tmp_path: Path, executor: str) -> None:
    module = nn.Sequential(nn.Embedding(7, 4), Gru(4, 6), nn.Dropout(0.2), nn.Linear(6, 7))
    text = np.arange(480).reshape(60, 8) % 7
    runs = [
        hpcfsl.run(
            settings(
                run={"rounds": 2, "device": "cpu"},
                data={},
                model={"cut": "1"},
                partition={"rule": "iid", "clients": 6},
                training={"batch_size": 4, "executor": executor},
                threat={"attack": "label-flip", "clients": 1},
            ),
            out=tmp_path / name,
            model=module,
            inputs=text,
            targets=(text + 1) % 7,
            vocabulary=7,
        )
        for name in "ab"
    ]
    assert digest(runs[0]) == digest(runs[1])
    assert np.isfinite(runs[0].column("rounds", "test_loss")).all()


def test_symbols_whose_number_is_not_said(tmp_path: Path) -> None:
    text = np.arange(480).reshape(60, 8) % 7
    with pytest.raises(UserError, match="reads symbols, and the samples are numbers"):
        hpcfsl.run(settings(data={}), out=tmp_path / "run", inputs=text, targets=text, owners=np.arange(60) // 10)
