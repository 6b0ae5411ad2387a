"""What screening says of each client, on record: scores, thresholds, and who was left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcfsl

Maker = Callable[..., dict[str, dict[str, Any]]]
SHARED = ("parallel", "splitfed-v2", "u-shaped")
FLIP = {"attack": "label-flip", "clients": 3}


@pytest.mark.parametrize(
    ("protocol", "attack"),
    [*((protocol, "smashed-non-finite") for protocol in SHARED), ("parallel", "smashed-shift")],
)
def test_scores_of_screening_are_in_the_trace(protocol: str, attack: str, tiny: Maker, tmp_path: Path) -> None:
    run = hpcfsl.run(
        tiny(
            run={"preset": "averaging"},
            groups={"number": 2},
            model={"hidden": [8, 6]},
            protocol={"name": protocol, "undo": "screen"},
            screening={"rule": "distance"},
            threat={"attack": attack, "clients": 2},
            faults={"rule": "random", "dropout_before": 0.2},
            data={"noise": 0.2},
        ),
        out=tmp_path / "run",
    )
    rows, flags = run.table("participation"), run.labels("participation", "status")
    arrived = rows["status"] != flags.index("lost")
    score = rows["screening_score"]
    assert 0 < arrived.sum() < len(arrived)
    assert np.isnan(score[~arrived]).all()
    assert (score[arrived] >= 0).all()
    liars = arrived & (rows["attacker"] == 1)
    assert np.isinf(score[liars]).all() == (attack == "smashed-non-finite")
    # One threshold a group and round: what is above it was screened, and nothing else.
    groups = run.table("group_rounds")
    known = {
        (int(round), int(group)): threshold
        for round, group, threshold in zip(groups["round"], groups["group"], groups["screening_threshold"], strict=True)
    }
    threshold = np.array([known[int(r), int(g)] for r, g in zip(rows["round"], rows["group"], strict=True)])
    screened = rows["status"] == flags.index("screened")
    left_out = screened | (rows["status"] == flags.index("non-finite"))
    assert (screened if attack == "smashed-shift" else left_out).any()
    assert ((score > threshold) == left_out)[arrived].all()


def test_without_screening_there_are_no_scores_of_it(tiny: Maker, tmp_path: Path) -> None:
    run = hpcfsl.run(tiny(protocol={"name": "parallel", "undo": "replay"}, threat=FLIP), out=tmp_path / "run")
    assert np.isnan(run.column("participation", "screening_score")).all()
    assert np.isnan(run.column("group_rounds", "screening_threshold")).all()
