from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.mpirun import run_ranks

from hpcfsl.scaling.design import DESIGN
from hpcfsl.scaling.ranks import NETWORK_BYTES


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_say_what_every_stage_took(ranks: int, tmp_path: Path) -> None:
    ended = run_ranks(ranks, "-m", "hpcfsl.scaling.ranks", "2", tmp_path, DESIGN[0].name)
    assert ended.code == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    rounds = said["settings"][DESIGN[0].name]
    assert len(rounds) == 2
    for each in rounds:
        assert set(each["stages"]) == {"train", "pool", "sum", "gather", "aggregate", "evaluate", "record"}
        assert all(seconds >= 0 for seconds in each["stages"].values())
        assert len(each["group_train"]) == len(each["group_score"]) == len(each["group_sum"])
    # Three ranks share four groups: root has two of them or one.
    assert len(rounds[0]["group_train"]) == 4 if ranks == 1 else len(rounds[0]["group_train"]) in (1, 2)
    assert set(said["network"]) == {"0", *map(str, NETWORK_BYTES)}
    assert not list(tmp_path.iterdir())  # every run's folder is gone
