"""What must hold under every kind of MPI, not only under the one that the other tests use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.mpirun import find_python, run_hpcfsl, run_ranks

import hpcfsl
from hpcfsl.trace.digest import digest

Maker = Callable[..., dict[str, dict[str, Any]]]
OTHERS = ["mpich", "system"]
LIBRARY = {"mpich": "MPICH", "system": "Open MPI"}
SECONDS_TO_END = 60.0


@pytest.mark.parametrize("mpi", OTHERS)
def test_it_is_another_library(mpi: str) -> None:
    program = "from mpi4py import MPI; print(MPI.Get_library_version()); print(MPI.__file__)"
    own, other = run_ranks(1, "-c", program), run_ranks(1, "-c", program, mpi=mpi)
    assert (own.code, other.code) == (0, 0), other.stderr
    assert own.stdout.splitlines()[0] != other.stdout.splitlines()[0]
    assert LIBRARY[mpi] in other.stdout
    compiled_here = str(Path(find_python(mpi)).parent.parent) in other.stdout.splitlines()[-1]
    assert compiled_here == (mpi == "system")  # the wheel of mpi4py speaks to any; the other is built from source


@pytest.mark.parametrize("mpi", OTHERS)
def test_an_exception_on_one_rank_ends_all(mpi: str, config: Path, tmp_path: Path) -> None:
    ended = run_hpcfsl(3, config, tmp_path / "run", seconds=SECONDS_TO_END, mpi=mpi, HPCFSL_FAULT="raise:1:3")
    assert ended.code != 0
    (line,) = ended.lines
    assert "rank 1" in line
    assert line.endswith("RuntimeError: the planned fault in two lines")
    assert hpcfsl.open(tmp_path / "run").status == "failed"


@pytest.mark.parametrize("mpi", OTHERS)
def test_data_that_one_rank_cannot_read(mpi: str, tmp_path: Path, tiny: Maker) -> None:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tiny(data={"source": "torn", "samples": 240})))
    ended = run_hpcfsl(3, path, tmp_path / "run", seconds=SECONDS_TO_END, mpi=mpi, HPCFSL_TORN="0")
    assert ended.code != 0
    assert ended.lines == ["hpcfsl: /scratch/part.npz: cannot be read on this node: copy it there"]


@pytest.mark.parametrize("mpi", OTHERS)
def test_begun_under_one_mpi_and_continued_under_another(
    mpi: str, config: Path, tmp_path: Path, undisturbed: str
) -> None:
    out = tmp_path / "run"
    for kind, size, fault in (("own", 2, "kill:1:1"), (mpi, 3, "kill:0:3"), (mpi, 2, "stop:1:4")):
        ended = run_hpcfsl(size, config, out, seconds=SECONDS_TO_END, mpi=kind, HPCFSL_FAULT=fault)
        assert ended.code != 0
        assert hpcfsl.open(out).status in ("resumable", "failed")
    assert hpcfsl.open(out).rounds_done == 5  # stopped in order, after the round
    ended = run_hpcfsl(3, config, out)
    assert ended.code == 0, ended.stderr
    assert hpcfsl.open(out).status == "finished"
    assert digest(hpcfsl.open(out)) == undisturbed


@pytest.mark.parametrize("mpi", OTHERS)
def test_more_ranks_than_groups_and_no_launcher_at_all(mpi: str, config: Path, tmp_path: Path) -> None:
    for size, out in ((5, tmp_path / "five"), (0, tmp_path / "none")):
        ended = run_hpcfsl(size, config, out, mpi=mpi)
        assert ended.code == 0, ended.stderr
    five, none = hpcfsl.open(tmp_path / "five"), hpcfsl.open(tmp_path / "none")
    assert set(five.column("group_rounds", "rank").tolist()) == {0, 1, 2}  # of three groups
    assert five.table("ranks")["rank"].tolist() == [0, 1, 2, 3, 4]
    assert digest(five) == digest(none)
