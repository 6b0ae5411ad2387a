"""Uploads that wait for the other groups' scores: in memory, in a scratch file, and where that fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.made import as_bits, configure, first_state, make_scored, small_config, small_world

from hpcfsl.errors import UserError
from hpcfsl.group import ScoredGroup
from hpcfsl.holding import Holding
from hpcfsl.parallel.scratch import scratch_folder
from hpcfsl.round import run_round
from hpcfsl.stopwatch import Stopwatch

CONFIG = configure("hardened")
ROW = 4 * 50


def scored_group(count: int, seed: int) -> ScoredGroup:
    updates = np.random.default_rng(seed).normal(size=(count, 50))
    updates[0, 0] = -np.inf
    return make_scored(CONFIG, updates, np.ones(count))


@pytest.mark.parametrize("budget_rows", [0, 3, 5, 100])
def test_groups_come_back_as_they_went(tmp_path: Path, budget_rows: int) -> None:
    groups = [scored_group(count, seed) for seed, count in enumerate([3, 2, 4])]
    with Holding(budget_rows * ROW, tmp_path) as holding:
        held = [holding.put(group) for group in groups]
        in_memory = [each.place is None for each in held]
        assert (
            in_memory == {0: [False] * 3, 3: [True, False, False], 5: [True, True, False], 100: [True] * 3}[budget_rows]
        )
        assert not any(tmp_path.iterdir())  # the scratch file has no name
        for group, each in zip(groups, held, strict=True):
            back = holding.get(each)
            assert as_bits(back.uploads) == as_bits(group.uploads)
            assert back.scores is group.scores


def test_no_scratch_file_is_made_while_there_is_room(tmp_path: Path) -> None:
    with Holding(10 * ROW, tmp_path / "missing") as holding:
        holding.put(scored_group(3, 0))


def test_a_budget_of_memory_changes_no_bit(tmp_path: Path) -> None:
    seen = []
    for hold_mib in (1024.0, 0.01, 0.0):
        config = small_config(run={"hold_mib": hold_mib}, threat={"attack": "non-finite", "clients": 2})
        assert config.threshold.scope == "pooled"
        world = small_world(config)
        state = first_state(world)
        for round in range(2):
            state, outcome = run_round(world, state, round, Stopwatch(), scratch=tmp_path)
            seen.append(as_bits(state.weights) + as_bits(outcome.factors))
    assert seen[:2] == seen[2:4] == seen[4:]


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    with Holding(0, tmp_path / "missing") as holding, pytest.raises(UserError) as caught:
        holding.put(scored_group(3, 0))
    text = str(caught.value)
    assert text.startswith("0 MiB of uploads cannot be written in a scratch file in")
    assert "No such file" in text
    assert "set TMPDIR" in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfsl.parallel.scratch._unnamed_file", lambda _: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    with (
        Holding(0, tmp_path) as holding,
        pytest.raises(UserError, match=r"written .*No space left on device.*hold_mib"),
    ):
        holding.put(scored_group(3, 0))


def test_a_file_that_has_become_shorter_is_one_clear_line(tmp_path: Path) -> None:
    with Holding(0, tmp_path) as holding:
        held = holding.put(scored_group(3, 0))
        file = holding._file._file
        assert file is not None
        os.ftruncate(file.fileno(), 3 * ROW - 100)
        with pytest.raises(UserError, match=r"read in a scratch file .*it ends 100 bytes too early"):
            holding.get(held)


def test_scratch_files_go_where_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    assert scratch_folder(tmp_path) == tmp_path
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert scratch_folder(tmp_path) == Path("/elsewhere")
