"""Nothing is lost: runs are killed at random instants on random numbers of ranks (jobs/kill_loop.py), and hang on."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "jobs" / "kill_loop.py"
KILLS = 14


@pytest.fixture(autouse=True)
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure no coverage in the runs: other tests execute the same lines, and these start a hundred ranks."""
    for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_loop", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_loop"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(1200)  # a machine that others use too
def test_every_kill_is_survived(script: ModuleType, tmp_path: Path) -> None:
    said: list[str] = []
    loop = script.KillLoop(tmp_path, random.Random(7), said.append)
    for case in script.make_cases(7):
        loop.survive(case, KILLS // 2)
    loop.clean()
    assert len(loop.kills) == len(said) == KILLS
    assert {kill.victim for kill in loop.kills} == {"rank", "launcher", "all"}
    assert {kill.phase for kill in loop.kills} == {"start", "round", "commit"}
    assert len({kill.ranks for kill in loop.kills}) >= 4


def test_losses_are_counted_and_held_to_the_cadence(script: ModuleType) -> None:
    assert script.lost_rounds([0, 1, 2, 2, 3, 2, 3, 4], 2) == [1, 2]
    with pytest.raises(script.KillLoopError, match="no more than 2 may be done again"):
        script.lost_rounds([0, 1, 2, 3, 1], 2)
    with pytest.raises(script.KillLoopError, match="none left out"):
        script.lost_rounds([0, 1, 3], 2)
    with pytest.raises(script.KillLoopError, match="none left out"):
        script.lost_rounds([1, 2], 2)


def test_a_run_that_is_not_the_undisturbed_one_is_reported(script: ModuleType, tmp_path: Path) -> None:
    loop = script.KillLoop(tmp_path, random.Random(0), lambda text: None)
    case = script.Case(
        name="short",
        rounds=2,
        cadence=1,
        text=script.SMALL.format(
            seed=1, rounds=2, cadence=1, side=4, hidden=8, buffer=1, protocol="splitfed-v3", drift="scaffold"
        ),
    )
    loop._digests["short"] = "0" * 64
    with pytest.raises(script.KillLoopError, match="the undisturbed run has 0000"):
        loop.survive(case, 1)
    loop.clean()
