from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcfsl
from hpcfsl import display
from hpcfsl.display import make_listener, print_result, print_summary
from hpcfsl.simulation import Progress

Maker = Callable[..., dict[str, dict[str, Any]]]
Captured = pytest.CaptureFixture[str]


def progress(round: int, accuracy: float = 0.5) -> Progress:
    row = {"test_accuracy": accuracy, "train_loss": 1.25, "num_excluded": 1, "num_participants": 12}
    return Progress(round=round, rounds=4, row=row)


class TestListener:
    def test_lines_come_now_and_then_and_at_the_end(self, capsys: Captured) -> None:
        listener = make_listener(True)
        assert listener is not None
        for round in range(4):
            listener(progress(round))
        assert capsys.readouterr().err.splitlines() == [
            "round 1/4 accuracy 50.0 % loss 1.250 excluded 1/12",
            "round 4/4 accuracy 50.0 % loss 1.250 excluded 1/12",
        ]

    def test_a_round_without_a_test_shows_no_accuracy(self, capsys: Captured) -> None:
        listener = make_listener(True)
        assert listener is not None
        listener(progress(0, float("nan")))
        assert capsys.readouterr().err == "round 1/4 loss 1.250 excluded 1/12\n"

    def test_every_line_where_rounds_take_long(self, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(display, "_LINE_SECONDS", 0.0)
        listener = make_listener(True)
        assert listener is not None
        for round in range(4):
            listener(progress(round))
        assert len(capsys.readouterr().err.splitlines()) == 4

    def test_a_bar_on_demand(self, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HPCFSL_PROGRESS", "1")
        monkeypatch.setenv("COLUMNS", "120")
        listener = make_listener(True)
        assert listener is not None
        for round in range(4):
            listener(progress(round))
        lines = capsys.readouterr().err.splitlines(keepends=True)
        assert len(lines) == 2  # the rounds between follow too soon
        assert all(line.endswith("\n") for line in lines)
        assert lines[1].startswith("\x1b[1A\x1b[2K")
        assert "4/4" in lines[1]
        assert "accuracy 50.0 %" in lines[1]

    @pytest.mark.parametrize(("root", "setting"), [(False, "1"), (True, "0")])
    def test_nothing(self, monkeypatch: pytest.MonkeyPatch, root: bool, setting: str) -> None:
        monkeypatch.setenv("HPCFSL_PROGRESS", setting)
        assert make_listener(root) is None

    @pytest.mark.parametrize("columns", ["", "wide", "0", "-3"])
    def test_a_width_that_is_no_number(self, capsys: Captured, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
        monkeypatch.setenv("HPCFSL_PROGRESS", "1")
        monkeypatch.setenv("COLUMNS", columns)
        listener = make_listener(True)
        assert listener is not None
        listener(progress(0))
        assert "1/4" in capsys.readouterr().err


class TestSummary:
    def test_of_an_attacked_run(self, tiny: Maker, tmp_path: Path, capsys: Captured) -> None:
        sections = {"threat": {"attack": "non-finite", "clients": 1}, "evaluation": {"clients_every": 1}}
        run = hpcfsl.run(tiny(**sections), out=tmp_path / "run")
        print_summary(run)
        text = capsys.readouterr().out
        for words in ("finished, 3 rounds", "in 100.00 % of their rounds", "3 x, attacker", "client accuracy"):
            assert words in text
        assert max(map(len, text.splitlines())) <= 100

    def test_of_a_run_without_tests(self, tiny: Maker, tmp_path: Path, capsys: Captured) -> None:
        run = hpcfsl.run(tiny(run={"rounds": 1}, evaluation={"every": 5}), out=tmp_path / "run")
        print_result(run, "finished")
        text = capsys.readouterr().out
        assert "test accuracy" not in text
        assert "stopped" not in text

    def test_of_a_stopped_run(self, tiny: Maker, tmp_path: Path, capsys: Captured) -> None:
        run = hpcfsl.run(tiny(), out=tmp_path / "run")
        print_result(run, "resumable")
        assert capsys.readouterr().out.startswith("stopped after 3 rounds; the same command continues: ")

    def test_sizes(self) -> None:
        sizes = [display._size(count) for count in (0, 999, 1500, 2.5e6, 3e9, 4.5e12)]
        assert sizes == ["0 B", "999 B", "1.5 kB", "2.5 MB", "3 GB", "4.5 TB"]
