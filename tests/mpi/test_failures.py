"""What goes wrong on one rank ends all of them, at once and in words; and the same command goes on afterwards."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.mpirun import Ended, finish, is_open_mpi, run_hpcfsl, run_ranks, start

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.trace.digest import digest

Maker = Callable[..., dict[str, dict[str, Any]]]
SECONDS_TO_END = 60.0  # two cores, torch to import, and nobody to wait for


def train_of(ended: Ended, rank: int, round: int) -> str:
    """Return where it happened: the training of some group, which the job named."""
    place = f"rank {rank}, phase train, round {round}, group "
    (group,) = {line.split(place)[1][0] for line in ended.lines}
    return place + group


class TestOneRankFails:
    def test_an_exception_ends_all_and_names_rank_and_phase(self, config: Path, tmp_path: Path) -> None:
        ended = run_hpcfsl(3, config, tmp_path / "run", seconds=SECONDS_TO_END, HPCFSL_FAULT="raise:1:3")
        assert ended.code == 1
        assert ended.lines == [f"hpcfsl: {train_of(ended, 1, 3)}: RuntimeError: the planned fault in two lines"]
        assert 'raise RuntimeError("the planned fault' in ended.stderr  # a defect shows where it is
        last = json.loads((tmp_path / "run" / "progress.jsonl").read_text().splitlines()[-1])
        assert (last["failure"], last["type"]) == ("the planned fault in two lines", "RuntimeError")
        assert (last["rank"], last["phase"], last["round"]) == (1, "train", 3)
        assert last["group"] in range(3)
        assert hpcfsl.open(tmp_path / "run").status == "failed"
        assert hpcfsl.open(tmp_path / "run").rounds_done == 2

    def test_a_mistake_that_only_one_rank_meets_in_mid_run(self, config: Path, tmp_path: Path) -> None:
        ended = run_hpcfsl(2, config, tmp_path / "run", seconds=SECONDS_TO_END, HPCFSL_FAULT="mistake:1:1")
        assert ended.code == 2
        assert ended.lines == [f"hpcfsl: {train_of(ended, 1, 1)}: DataError: shard 7 is torn: fetch it again"]
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize(("share", "torn"), [(True, 0), (False, 1)])
    def test_data_that_one_rank_cannot_read(self, tmp_path: Path, tiny: Maker, share: bool, torn: int) -> None:
        path = tmp_path / "config.toml"
        path.write_text(tomli_w.dumps(tiny(run={"share_data": share}, data={"source": "torn", "samples": 240})))
        ended = run_hpcfsl(2, path, tmp_path / "run", seconds=SECONDS_TO_END, HPCFSL_TORN=str(torn))
        assert ended.code == 2
        assert ended.lines == ["hpcfsl: /scratch/part.npz: cannot be read on this node: copy it there"]
        assert "Traceback" not in ended.stderr


class TestUserErrors:
    def test_a_wrong_configuration_is_one_line_for_all_ranks(self, config: Path, tmp_path: Path) -> None:
        ended = run_hpcfsl(3, config, tmp_path / "run", "--set", "groups.number=13")
        assert ended.code == 2
        assert ended.lines == ["hpcfsl: groups.number = 13: only 12 clients take part in a round; use fewer groups or "
                               "more clients"]  # fmt: skip
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
    def test_a_launcher_of_another_mpi(self, config: Path, tmp_path: Path, name: str) -> None:
        ended = run_hpcfsl(0, config, tmp_path / "run", **{name: "2"})
        assert ended.code == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("hpcfsl: the launcher started 2 ranks, but MPI sees 1: ")


class TestContinuing:
    def test_killed_ranks_then_the_same_command_on_other_numbers(
        self, config: Path, tmp_path: Path, undisturbed: str
    ) -> None:
        out = tmp_path / "run"
        for size, fault in ((2, "kill:1:1"), (3, "kill:0:3"), (2, "kill:1:4")):
            ended = run_hpcfsl(size, config, out, seconds=SECONDS_TO_END, HPCFSL_FAULT=fault)
            assert ended.code != 0
            assert hpcfsl.open(out).status in ("resumable", "failed")
        ended = run_hpcfsl(2, config, out)
        assert ended.code == 0, ended.stderr
        assert "finished, 6 rounds" in ended.stdout
        assert hpcfsl.open(out).status == "finished"
        assert digest(hpcfsl.open(out)) == undisturbed

    def test_a_signal_to_one_rank_stops_all_in_order(self, config: Path, tmp_path: Path, undisturbed: str) -> None:
        out = tmp_path / "run"
        ended = run_hpcfsl(2, config, out, HPCFSL_FAULT="stop:1:2")
        assert ended.code == 3, ended.stderr
        assert "stopped after 3 rounds; the same command continues" in ended.stdout
        assert (hpcfsl.open(out).status, hpcfsl.open(out).rounds_done) == ("resumable", 3)
        assert run_hpcfsl(3, config, out).code == 0
        assert digest(hpcfsl.open(out)) == undisturbed
        assert "finished, 6 rounds" in run_hpcfsl(0, config, out).stdout  # and once more does nothing

    def test_usr2_to_the_launcher_reaches_the_ranks(self, tmp_path: Path, tiny: Maker) -> None:
        if not is_open_mpi():
            pytest.skip("MPICH's launcher keeps the signal to itself")
        path, out = tmp_path / "config.toml", tmp_path / "run"
        path.write_text(resolve(tiny(run={"rounds": 100_000})).to_toml())
        process = start(2, "-m", "hpcfsl", "run", path, "--out", out)
        deadline = time.monotonic() + SECONDS_TO_END
        while not (out / "progress.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR2)
        ended = finish(process)
        assert ended.code == 3, ended.stderr
        assert hpcfsl.open(out).status == "resumable"


def test_the_python_interface_ends_all_ranks_too(config: Path, tmp_path: Path) -> None:
    program = Path(__file__).parent / "programs" / "many_runs.py"
    ended = run_ranks(2, program, config.parent, tmp_path / "runs", seconds=SECONDS_TO_END, HPCFSL_FAULT="raise:1:0")
    assert ended.code == 1
    assert ended.lines == [f"hpcfsl: {train_of(ended, 1, 0)}: RuntimeError: the planned fault in two lines"]
