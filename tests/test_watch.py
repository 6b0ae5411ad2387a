from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

import hpcfsl
from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.progress import Recent, read_progress
from hpcfsl.watch import line, picture, watch

Maker = Callable[..., dict[str, dict[str, Any]]]
FAILURE = {"failure": "out of luck", "type": "RuntimeError", "rank": 3, "phase": "train"}


def row(round: int, **changes: Any) -> dict[str, Any]:
    plain = {"round": round, "test_accuracy": 0.5, "train_loss": 1.25, "num_excluded": 1, "num_participants": 12}
    return {**plain, "seconds": 0.5, **changes}


@pytest.fixture
def going(tmp_path: Path) -> RunFolder:
    """Return a folder whose run has done two rounds of ten and stopped."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.config.write_text("[run]\nrounds = 10\n")
    folder.set_status("resumable")
    for round in range(2):
        folder.add_progress(json.dumps(row(round)))
    return folder


class TestReading:
    def test_nothing_yet(self, tmp_path: Path) -> None:
        assert read_progress(RunFolder(tmp_path)) == Recent(rounds=(), failure=None)

    def test_rounds_that_were_run_again_count_once(self, going: RunFolder) -> None:
        for round in (2, 3, 1, 2):
            going.add_progress(json.dumps(row(round, train_loss=9.0)))
        found = read_progress(going).rounds
        assert [(each["round"], each["train_loss"]) for each in found] == [(0, 1.25), (1, 9.0), (2, 9.0)]

    def test_torn_and_foreign_lines_are_passed_over(self, going: RunFolder) -> None:
        with going.progress.open("a") as stream:
            stream.write('{"round": 2, "te\n[1]\n7\n{"round": "x"}\n' + json.dumps(row(3)))
        assert [each["round"] for each in read_progress(going).rounds] == [0, 1]

    def test_a_failure_counts_until_a_round_follows(self, going: RunFolder) -> None:
        going.add_progress(json.dumps(FAILURE))
        assert read_progress(going).failure == FAILURE
        going.add_progress(json.dumps(row(2)))
        assert read_progress(going).failure is None

    def test_only_the_end_of_a_long_file_is_read(self, going: RunFolder) -> None:
        for round in range(2, 2000):
            going.add_progress(json.dumps(row(round)))
        found = read_progress(going).rounds
        assert found[-1]["round"] == 1999
        assert 100 < len(found) < 1000


class TestText:
    def test_a_running_run_has_a_pace(self) -> None:
        recent = Recent(rounds=tuple(row(round) for round in range(4)), failure=None)
        assert line("running", recent, 1000) == (
            "running, round 4 of 1000, accuracy 50.0 %, loss 1.250, excluded 1/12, 0.5 s a round, about 8 min left"
        )
        assert "about 3 s left" in line("running", recent, 10)
        assert "about 13.9 h left" in line("running", recent, 100_004)

    def test_a_run_without_rounds_or_numbers(self) -> None:
        assert line("running", Recent(rounds=(), failure=None), 5) == "running"
        odd = Recent(rounds=(row(0, test_accuracy=None, train_loss=None),), failure=None)
        assert line("finished", odd, 1) == "finished, round 1 of 1, excluded 1/12"

    def test_a_failure_is_named(self) -> None:
        said = line("failed", Recent(rounds=(row(0),), failure=FAILURE), 5)
        assert said.endswith("rank 3, phase train: RuntimeError: out of luck")

    def test_the_bar_says_how_far(self) -> None:
        console = Console(record=True, width=80, force_terminal=True)
        console.print(picture("running", Recent(rounds=(row(4),), failure=None), 10))
        text = console.export_text()
        assert "round 5 of 10" in text
        assert "━" in text


class TestCommand:
    @pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1), ("resumable", 3)])
    def test_says_how_the_run_ended(self, going: RunFolder, status: Any, code: int) -> None:
        going.set_status(status)
        ended = CliRunner().invoke(main, ["watch", str(going.path)])
        assert ended.exit_code == code
        assert ended.stdout.startswith(f"{status}, round 2 of 10, ")

    def test_once_says_one_line(self, going: RunFolder) -> None:
        ended = CliRunner().invoke(main, ["watch", "--once", str(going.path)])
        assert (ended.exit_code, len(ended.stdout.splitlines())) == (0, 1)

    def test_not_a_run(self, tmp_path: Path) -> None:
        ended = CliRunner().invoke(main, ["watch", str(tmp_path)])
        assert ended.exit_code == 2
        assert "not a run folder" in ended.stderr

    def test_follows_a_real_run_to_its_end(
        self, tiny: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run() -> None:
            hpcfsl.run(resolve(tiny(run={"rounds": 120})), out=tmp_path / "run")

        thread = threading.Thread(target=run)
        thread.start()
        while not (tmp_path / "run" / "progress.jsonl").exists():
            time.sleep(0.01)
        code = watch(tmp_path / "run", interval=0.02, once=False, wait=True)
        thread.join()
        lines = capsys.readouterr().out.splitlines()
        assert code == 0
        assert lines[0].startswith("running, round ")
        assert lines[-1].startswith("finished, round 120 of 120")
