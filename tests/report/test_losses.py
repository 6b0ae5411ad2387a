"""Lost clients and virtual time on the page and in the summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hpcfsl
from hpcfsl.report.page import render
from hpcfsl.report.view import views
from hpcfsl.trace.inspect import summary


def test_a_run_with_faults_and_a_clock(tiny: Callable[..., Any], tmp_path: Path) -> None:
    faults = {"rule": "random", "dropout_before": 0.2, "dropout_after": 0.1, "nan": 0.1}
    clock = {"rule": "phones", "deadline_seconds": 5.0}
    threat = {"attack": "sign-flip", "clients": 4}
    timed = hpcfsl.run(tiny(run={"rounds": 6}, faults=faults, clock=clock, threat=threat), out=tmp_path / "timed")
    plain = hpcfsl.run(tiny(), out=tmp_path / "plain")

    text = render([timed, plain], tmp_path / "page.html").read_text("utf-8")
    assert 'id="losses"' in text
    for words in ("Test accuracy over virtual time", "Lost clients over rounds", "dropped-before", "virtual time"):
        assert words in text
    assert 'id="losses"' not in render([plain], tmp_path / "plain.html").read_text("utf-8")

    rows, names = timed.table("participation"), timed.labels("participation", "fault")
    arrived = rows["status"] != timed.labels("participation", "status").index("lost")
    assert 0 < arrived.sum() < len(arrived)
    view = views([timed])[0]
    assert len(view.participation["round"]) == arrived.sum()
    assert not np.isnan(view.participation["credit_score"]).any()
    found = summary(timed)
    counts = {name: int((rows["fault"] == code).sum()) for code, name in enumerate(names)}
    assert found["faults"] == {name: count for name, count in counts.items() if count and name != "none"}
    assert found["virtual_seconds"] == timed.column("rounds", "virtual_time")[-1]
    # An upload that never arrived could not be excluded, so it counts for nobody's rate.
    assert found["detection"]["attackers"] + found["detection"]["honest"] == arrived.sum()
    assert summary(plain)["faults"] == {}
    assert summary(plain)["virtual_seconds"] is None
