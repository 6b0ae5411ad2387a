from __future__ import annotations

import builtins
import faulthandler
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner

import hpcfsl
from hpcfsl import launch as launch_module
from hpcfsl.cli import main
from hpcfsl.errors import DataError, UserError
from hpcfsl.launch import describe_machine, launch
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.failure import failing_together
from hpcfsl.parallel.mpi import connect, find_launcher
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder

Maker = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def config(tmp_path: Path, tiny: Maker) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tiny()))
    return path


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


class TestExitCodes:
    def test_finished(self, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert launch(config, tmp_path / "run", ()) == 0
        captured = capsys.readouterr()
        assert "finished, 3 rounds" in captured.out
        assert "round 1/3 accuracy" in captured.err

    def test_stopped_by_a_signal_and_continued(self, tmp_path: Path, tiny: Maker) -> None:
        path, out = tmp_path / "config.toml", tmp_path / "run"
        path.write_text(tomli_w.dumps(tiny(run={"rounds": 100_000})))
        command = [sys.executable, "-m", "hpcfsl", "run", str(path), "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not (out / "progress.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 3, stderr
        assert "the same command continues" in stdout
        done = hpcfsl.open(out).rounds_done
        assert hpcfsl.open(out).status == "resumable"
        assert launch(path, out, (f"run.rounds={done + 1}",)) == 0

    def test_stopped_before_a_commit_prints_no_table(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.toml").write_text("")
        monkeypatch.setattr(launch_module, "simulate", lambda *_, **__: "resumable")
        assert launch(config, tmp_path / "run", ()) == 3
        assert capsys.readouterr().out == (f"stopped after 0 rounds; the same command continues: {tmp_path / 'run'}\n")

    def test_interrupted(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("hpcfsl.simulation.evaluate_round", raising(KeyboardInterrupt()))
        assert launch(config, tmp_path / "run", ()) == 130
        assert capsys.readouterr().err == "hpcfsl: interrupted; the same command continues the run\n"
        assert hpcfsl.open(tmp_path / "run").status == "resumable"

    def test_a_mistake_in_mid_run_is_one_line(
        self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hpcfsl.simulation.evaluate_round", raising(DataError("part 3 is torn")))
        result = CliRunner().invoke(main, ["run", str(config), "--out", str(tmp_path / "run")])
        assert (result.exit_code, result.stderr) == (2, "hpcfsl: part 3 is torn\n")
        assert hpcfsl.open(tmp_path / "run").status == "failed"

    def test_a_defect_shows_its_traceback(self, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hpcfsl.simulation.evaluate_round", raising(ZeroDivisionError("oh")))
        result = CliRunner().invoke(main, ["run", str(config), "--out", str(tmp_path / "run")])
        assert result.exit_code == 1
        assert isinstance(result.exception, ZeroDivisionError)
        assert result.exception.__notes__ == ["hpcfsl: rank 0, phase evaluate, round 0"]


class Aborted(SystemExit):
    pass


@pytest.fixture(autouse=True)
def _no_last_resort() -> Iterator[None]:
    """Disarm what ends a failing rank that cannot reach its launcher: these tests' ranks live on."""
    yield
    faulthandler.cancel_dump_traceback_later()


class TwoRanks(SerialCommunicator):
    rank, size = 1, 2

    def abort(self, code: int) -> None:
        raise Aborted(code)


class TestFailingTogether:
    @pytest.mark.parametrize(
        ("error", "code", "traceback"), [(RuntimeError("two\nlines"), 1, True), (DataError("torn"), 2, False)]
    )
    def test_one_of_several_ranks_ends_all(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int, traceback: bool
    ) -> None:
        folder, watch = RunFolder(tmp_path), Stopwatch()
        folder.config.write_text("")
        with pytest.raises(Aborted) as caught, failing_together(folder, TwoRanks(), watch), watch.phase("score"):
            raise error
        assert caught.value.code == code
        text = capsys.readouterr().err
        assert text.startswith(f"hpcfsl: rank 1, phase score: {type(error).__name__}: {' '.join(str(error).split())}\n")
        assert ("Traceback" in text) == traceback
        assert folder.status() == "failed"
        assert json.loads(folder.progress.read_text())["rank"] == 1

    def test_a_folder_that_cannot_be_written_is_said_too(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = RunFolder(tmp_path)
        folder.config.write_text("")
        monkeypatch.setattr(folder, "add_progress", raising(OSError("no space")))
        with pytest.raises(RuntimeError), failing_together(folder, SerialCommunicator(), Stopwatch()):
            raise RuntimeError("first")
        assert capsys.readouterr().err == (
            "hpcfsl: rank 0, phase start: the failure could not be written down: no space\n"
        )

    def test_a_finished_run_stays_finished(self, tmp_path: Path) -> None:
        folder = RunFolder(tmp_path)
        folder.config.write_text("")
        folder.set_status("finished")
        with pytest.raises(RuntimeError), failing_together(folder, SerialCommunicator(), Stopwatch()):
            raise RuntimeError("before anything was done")
        assert folder.status() == "finished"


class TestConnect:
    def test_without_a_launcher_there_is_one_rank(self) -> None:
        assert isinstance(connect(), SerialCommunicator)

    @pytest.mark.parametrize(
        ("name", "value", "size"),
        [
            ("OMPI_COMM_WORLD_SIZE", "4", 4),
            ("PMI_SIZE", "x", None),
            ("SLURM_STEP_NUM_TASKS", "3", 3),
            ("PMIX_RANK", "2", 3),  # which says how many there are at least
        ],
    )
    def test_what_launchers_say(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, size: int | None) -> None:
        monkeypatch.setenv(name, value)
        assert find_launcher() == (None if size is None else (name, size))

    def test_a_step_of_one_task_needs_no_mpi(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
        assert isinstance(connect(), SerialCommunicator)

    @pytest.mark.parametrize(
        ("name", "value", "text"),
        [
            ("PMI_SIZE", "2", r"started 2 ranks, but MPI sees 1: .*; use the mpirun of the MPI that"),
            ("SLURM_STEP_NUM_TASKS", "2", r"started 2 ranks, but MPI sees 1: .*; use srun --mpi=pmix or"),
            ("PMIX_RANK", "1", r"started at least 2 ranks, but MPI sees 1"),
        ],
    )
    def test_a_launcher_of_another_mpi(self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str) -> None:
        monkeypatch.setattr("hpcfsl.parallel.mpi.MpiCommunicator", SerialCommunicator)
        monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=text):
            connect()

    def test_mpi4py_that_does_not_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PMI_SIZE", "2")
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        with pytest.raises(UserError, match=r"mpi4py does not load .* install hpcfsl\[run\]"):
            connect()


class TestDescribeMachine:
    def test_names_versions_and_devices(self) -> None:
        code = "from hpcfsl.cli import main; main(['info'])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
        lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
        assert {"processor", "cores", "numpy", "torch", "MPI", "devices", "kernels"} <= set(lines)

    def test_what_is_missing_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def without(name: str, *rest: Any) -> Any:
            if name in ("mpi4py", "torch"):
                raise ImportError(f"no {name}")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
        found = describe_machine()
        assert found["MPI"] == "not available: no mpi4py"
        assert found["devices"].startswith("torch is not installed")
