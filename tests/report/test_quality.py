"""Metrics of every kind of task where people look: page, summary, final table, live view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.display import print_summary
from hpcfsl.report import render
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.inspect import summary
from hpcfsl.trace.progress import headline, read_progress

Maker = Callable[..., dict[str, dict[str, Any]]]
TESTED = {"clients_every": 1, "held_out_clients": 2}
TEXT = {"source": "synthetic-text", "symbols": 5, "positions": 6, "samples": 240, "test_samples": 40}
KINDS: dict[str, dict[str, Any]] = {
    "classes": {},
    "sequences": {"data": TEXT, "model": {"name": "gru-lm", "hidden": 8}},
    "numbers": {"data": {"source": "diabetes"}, "training": {"batch_size": 4}},
}
SHOWN = {
    "classes": ("Test accuracy and loss over rounds", "Test macro-F1 over rounds", "Client accuracy, sorted"),
    "sequences": ("Test accuracy and loss over rounds", "Test macro-F1 and perplexity over rounds"),
    "numbers": ("Test RMSE and loss over rounds", "Test MAE and R2 over rounds", "Client MAE, sorted"),
}
HEADLINES = {"classes": ["accuracy"], "sequences": ["accuracy", "perplexity"], "numbers": ["MAE", "RMSE"]}


@pytest.fixture
def run(request: pytest.FixtureRequest, tiny: Maker, tmp_path: Path) -> hpcfsl.Run:
    tree = tiny(**KINDS[request.param], evaluation=TESTED, run={"rounds": 2})
    return hpcfsl.run(resolve(tree), out=tmp_path / "run")


@pytest.mark.parametrize(("run", "kind"), [(kind, kind) for kind in KINDS], indirect=["run"])
def test_what_is_shown_is_of_the_kind_of_task(
    run: hpcfsl.Run, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, page = summary(run), render([run], tmp_path / "page.html").read_text("utf-8")
    for title in (*SHOWN[kind], "naive baseline", "held-out clients", ", and 2 held out"):
        assert title in page
    assert set(tree["metrics"]) == {"test", "clients", "held-out-clients", "naive"}
    assert set(tree["clients"]) == {"clients", "held-out-clients"}
    print_summary(run)
    printed = capsys.readouterr().out
    assert "naive" in printed
    assert "held-out client " in printed
    last = read_progress(RunFolder(run.path)).rounds[-1]
    assert [text.split()[0] for text in headline(last)] == HEADLINES[kind]


def test_a_round_without_a_test_has_no_headline() -> None:
    assert headline({"test_accuracy": float("nan"), "test_rmse": None, "round": 3}) == []
    assert headline({"test_accuracy": 0.125, "test_perplexity": 12.34567}) == ["accuracy 12.5 %", "perplexity 12.35"]
