"""What a job does after its ranks have ended: the script itself runs, with fake launchers and a fake Slurm."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from support.slurm_fakes import Fakes

from hpcfsl.cluster.job import Request, make_job
from hpcfsl.cluster.script import render_run, render_sweep
from hpcfsl.cluster.site import Site

STOP = 'kill -USR2 $PPID; until [ -e "$RUN/stop" ]; do sleep 0.02; done; echo resumable >"$RUN/status"; exit 3'
CUT = 'echo running >"$RUN/status"; exit 9'
PROGRESS = 'touch "$RUN/checkpoints/round_$(date +%s%N).h5"; '


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "job").mkdir()
    (folder / "lock").touch()
    return folder


@pytest.fixture
def script(run: Path, tmp_path: Path) -> Path:
    return write(tmp_path, render_run(make_job(Site(), Request(ranks_per_node=2), 1), run))


@pytest.fixture
def array(run: Path, tmp_path: Path) -> Path:
    return write(tmp_path, render_run(make_job(Site(requeue=False), Request(ranks_per_node=2, array=5), 1), run))


def write(folder: Path, text: str) -> Path:
    (folder / "job.sh").write_text(text, encoding="utf-8")
    return folder / "job.sh"


def element(number: int) -> dict[str, str]:
    return {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_JOB_ID": "40"}


def start(fakes: Fakes, script: Path, run: Path, launcher: str, **changes: str) -> tuple[int, bool]:
    """Return the script's exit status and whether it asked to be requeued."""
    fakes.forget()
    fakes.set("mpirun", launcher)
    done = fakes.run(script, RUN=str(run), **changes)
    assert done.stderr == ""
    assert fakes.calls("scontrol") in ([], [["requeue", "41"]])
    return done.returncode, bool(fakes.calls("scontrol"))


class TestRequeue:
    def test_finished(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, 'echo finished >"$RUN/status"') == (0, False)

    def test_stopped_by_the_warning(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, STOP) == (3, True)

    def test_warned_while_the_ranks_were_starting(self, fakes: Fakes, script: Path, run: Path) -> None:
        """A start removes an old `stop`, and with it one that came too early."""
        begin = 'kill -USR2 $PPID; until [ -e "$RUN/stop" ]; do sleep 0.02; done; rm "$RUN/stop"; '
        left = 'until [ -e "$RUN/stop" ]; do sleep 0.02; done; echo resumable >"$RUN/status"; exit 3'
        assert start(fakes, script, run, begin + left) == (3, True)

    def test_finished_in_spite_of_the_warning(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, 'kill -USR2 $PPID; sleep 0.1; echo finished >"$RUN/status"') == (0, False)

    def test_stopped_by_hand(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, 'echo resumable >"$RUN/status"; exit 3') == (3, False)

    def test_failed_even_when_warned(self, fakes: Fakes, script: Path, run: Path) -> None:
        failing = 'kill -USR2 $PPID; sleep 0.1; echo failed >"$RUN/status"; exit 1'
        assert start(fakes, script, run, failing) == (1, False)

    def test_a_launcher_that_hides_a_failure(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, 'echo failed >"$RUN/status"; exit 0') == (1, False)

    def test_a_launcher_that_is_not_there(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, "exit 127") == (127, False)

    def test_cut_off_again_and_again(self, fakes: Fakes, script: Path, run: Path) -> None:
        assert start(fakes, script, run, CUT) == (3, True)
        assert start(fakes, script, run, CUT) == (3, True)
        assert start(fakes, script, run, CUT) == (1, False)
        assert start(fakes, script, run, CUT) == (3, True)

    def test_cut_off_but_getting_on(self, fakes: Fakes, script: Path, run: Path) -> None:
        for _ in range(5):
            assert start(fakes, script, run, PROGRESS + CUT) == (3, True)

    def test_another_job_on_the_folder(self, fakes: Fakes, script: Path, run: Path) -> None:
        script.write_text(script.read_text().replace("--wait 10", "--wait 0.1"))
        with (run / "lock").open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            assert start(fakes, script, run, CUT) == (2, False)

    def test_not_where_it_is_not_wanted(self, fakes: Fakes, tmp_path: Path, run: Path) -> None:
        job = make_job(Site(), Request(ranks_per_node=2, no_requeue=True), 1)
        assert start(fakes, write(tmp_path, render_run(job, run)), run, STOP) == (3, False)

    def test_where_slurm_refuses(self, fakes: Fakes, script: Path, run: Path) -> None:
        fakes.set("scontrol", "exit 1")
        fakes.set("mpirun", STOP)
        done = fakes.run(script, RUN=str(run))
        assert done.returncode == 3
        assert "could not be requeued; submit again" in done.stdout


class TestArray:
    def test_an_element_that_is_stopped_leaves_the_rest_to_the_next(self, fakes: Fakes, array: Path, run: Path) -> None:
        assert start(fakes, array, run, STOP, **element(1)) == (3, False)
        assert fakes.calls("scancel") == []

    @pytest.mark.parametrize(("status", "code"), [("finished", 0), ("failed", 1)])
    def test_later_elements_leave_at_once(self, fakes: Fakes, array: Path, run: Path, status: str, code: int) -> None:
        (run / "status").write_text(f"{status}\n")
        assert start(fakes, array, run, "", **element(2)) == (code, False)
        assert fakes.calls("mpirun") == []
        assert fakes.calls("scancel") == [["--state=PENDING", "40"]]

    def test_the_first_element_tries_again(self, fakes: Fakes, array: Path, run: Path) -> None:
        (run / "status").write_text("failed\n")
        assert start(fakes, array, run, 'echo finished >"$RUN/status"', **element(1)) == (0, False)
        assert len(fakes.calls("mpirun")) == 1
        assert fakes.calls("scancel") == [["--state=PENDING", "40"]]

    def test_a_sweeps_element_takes_its_line(self, fakes: Fakes, run: Path, tmp_path: Path) -> None:
        (tmp_path / "job").mkdir()
        (tmp_path / "job" / "runs.txt").write_text(f"/none\n{run}\n")
        job = make_job(Site(program=("hpcfsl",)), Request(ranks_per_node=2), 1)
        text = render_sweep(job, tmp_path, [1, 2], None)
        assert start(fakes, write(tmp_path, text), run, STOP, **element(2)) == (3, True)
        (call,) = fakes.calls("mpirun")
        assert call[-4:] == ["run", f"{run}/job/config.toml", "--out", str(run)]


def test_root_may_start_ranks(fakes: Fakes, script: Path, run: Path) -> None:
    told = (
        'echo "${OMPI_ALLOW_RUN_AS_ROOT-}${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM-}" >"$RUN/told"; echo finished >"$RUN/status"'
    )
    fakes.set("id", "echo 0")
    assert start(fakes, script, run, told) == (0, False)
    assert (run / "told").read_text() == "11\n"
    fakes.set("id", "echo 1000")
    assert start(fakes, script, run, told) == (0, False)
    assert (run / "told").read_text() == "\n"
