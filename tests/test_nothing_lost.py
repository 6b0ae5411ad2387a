"""Full disks, damaged files, two runs at once, changed settings, readers: said in one line, and nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
import tomli_w
from support.mpirun import Ended, find_mpirun, run_hpcfsl

import hpcfsl
from hpcfsl.errors import UserError
from hpcfsl.trace import folder as folder_module
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.progress import read_progress
from hpcfsl.trace.reader import Run

Maker = Callable[..., dict[str, dict[str, Any]]]
Runner = Callable[..., Run]
PLACES = ("config.toml", "status", "updates/rounds_", "trace/segment_", "checkpoints/round_", "checkpoints/clients_")
FULL = "no space left on device; free some space and run the same command again"


@pytest.fixture
def tree(tiny: Maker) -> dict[str, dict[str, Any]]:
    return tiny(run={"rounds": 4, "checkpoint_rounds": 2}, score={"memory": 0.5})


@pytest.fixture
def run(tmp_path: Path, tree: dict[str, dict[str, Any]]) -> Runner:
    """Return what runs four rounds, a commit every two, into `folder`."""

    def runner(folder: str = "run", listener: Any = None) -> Run:
        return hpcfsl.run(tree, out=tmp_path / folder, listener=listener)

    return runner


@pytest.fixture
def expected(run: Runner) -> str:
    return digest(run("calm"))


def files(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


class TestDiskFull:
    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.parametrize("place", PLACES)
    def test_in_each_place(
        self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str, place: str, number: int
    ) -> None:
        if (place, number) == ("config.toml", 2):
            pytest.skip("written once a start")
        sync, met = os.fsync, 0

        def full(descriptor: int) -> None:
            nonlocal met
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            met += f"run/{place}" in name
            if met == number and f"run/{place}" in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(folder_module.os, "fsync", full)
            with pytest.raises(UserError, match=rf"run/{place}.*: {FULL}") as raised:
                run()
        assert "\n" not in str(raised.value)
        assert not list((tmp_path / "run").rglob("*.partial"))
        assert RunFolder(tmp_path / "run").status() in ("resumable", "failed")
        done = run()
        assert (done.status, digest(done)) == ("finished", expected)

    def test_in_the_progress_file(
        self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: str
    ) -> None:
        path = tmp_path / "run" / "progress.jsonl"

        def full(folder: RunFolder, line: str) -> None:
            with folder_module.folder_errors(folder.progress):
                with folder.progress.open("ab") as stream:
                    stream.write(line[:20].encode())  # what still fitted
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "add_progress", full)
            with pytest.raises(UserError, match=rf"progress.jsonl: {FULL}"):
                run()
        assert digest(run()) == expected
        assert path.read_text().startswith('{"round": 0, "num_pa')
        assert [row["round"] for row in read_progress(RunFolder(path.parent)).rounds] == [0, 1, 2, 3]

    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        """Return a file system of 256 KiB, where one can be mounted."""
        path = tmp_path / "small"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root can mount a small file system; the injected errors above ran")
        yield path
        subprocess.run(["umount", "-l", str(path)], check=True)

    @pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])
    def test_a_file_system_that_is_really_full(
        self, small: Path, tmp_path: Path, tree: dict[str, dict[str, Any]], ranks: int, expected: str
    ) -> None:
        if ranks and find_mpirun() is None:
            pytest.skip("no mpirun here")
        config = tmp_path / "config.toml"
        config.write_text(tomli_w.dumps(tree))
        ended = run_hpcfsl(ranks, config, small / "run")
        assert ended.code == 2, ended.stderr
        assert len({line for line in ended.lines if FULL in line}) == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        assert RunFolder(small / "run").status() in ("resumable", "failed")
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        ended = run_hpcfsl(ranks, config, small / "run")
        assert ended.code == 0, ended.stderr
        assert digest(hpcfsl.open(small / "run")) == expected
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        refused = run_hpcfsl(ranks, config, small / "run")
        assert (refused.code, len(refused.lines)) == (2, 1), refused.stderr
        assert "read-only file system; choose a folder that can be written to" in refused.lines[0]


class TestDamagedCheckpoints:
    @pytest.mark.parametrize("damage", ["cut", "flip"])
    def test_the_newest_falls_back_and_says_so(
        self, run: Runner, expected: str, damage: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        newest = run().path / "checkpoints" / "round_000004.h5"
        data = bytearray(newest.read_bytes())
        data[-9] ^= 1
        newest.write_bytes(data[:-7] if damage == "cut" else data)
        capsys.readouterr()
        done = run()
        said = [line for line in capsys.readouterr().err.splitlines() if "not used" in line]
        assert len(said) == 1
        assert said[0].startswith("hpcfsl: warning: round_000004.h5 not used: ")
        events = done.table("events")
        assert any(b"round_000004.h5 not used" in text for text in events["text"][events["kind"] == b"warning"])
        assert digest(done) == expected

    def test_all_are_bad(self, run: Runner) -> None:
        path = run().path
        for checkpoint in (path / "checkpoints").glob("round_*.h5"):
            checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
        before = files(path / "trace") | files(path / "updates") | files(path / "checkpoints")
        with pytest.raises(UserError, match="no checkpoint can be used; restore the named file from a copy, or delete"):
            run()
        assert files(path / "trace") | files(path / "updates") | files(path / "checkpoints") == before


def test_two_runs_on_one_folder(run: Runner, tree: dict[str, Any], tmp_path: Path, expected: str) -> None:
    config, said = tmp_path / "config.toml", list[Ended]()
    config.write_text(tomli_w.dumps(tree))

    def second(progress: Any) -> None:
        if progress.round == 1:  # once: the second run waits ten seconds before it gives up
            said.append(run_hpcfsl(0, config, tmp_path / "run"))

    assert digest(run(listener=second)) == expected
    (ended,) = said
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("hpcfsl: ")
    assert f"process {os.getpid()}; wait for it or choose another --out" in line


class TestChanges:
    def test_more_rounds_and_fewer(self, tiny: Maker, tmp_path: Path) -> None:
        longer = hpcfsl.run(tiny(run={"rounds": 5}), out=tmp_path / "longer")
        hpcfsl.run(tiny(run={"rounds": 3}), out=tmp_path / "run")
        assert digest(hpcfsl.run(tiny(run={"rounds": 5}), out=tmp_path / "run")) == digest(longer)
        fewer = hpcfsl.run(tiny(run={"rounds": 2}), out=tmp_path / "run")
        assert (fewer.status, fewer.rounds_done) == ("finished", 5)

    def test_the_content_of_the_table_of_executors(self, tiny: Maker, tmp_path: Path) -> None:
        table = tmp_path / "executors.toml"
        table.write_text("entries = []\n")
        make = lambda rounds: tiny(run={"rounds": rounds}, training={"table": str(table)})  # noqa: E731
        hpcfsl.run(make(1), out=tmp_path / "run")
        moved = table.rename(tmp_path / "moved.toml")
        hpcfsl.run(tiny(run={"rounds": 2}, training={"table": str(moved)}), out=tmp_path / "run")
        table.write_text("entries = []\n# another\n")
        with pytest.raises(UserError, match=r"training\.table \('content [0-9a-f]{16}', not 'content [0-9a-f]{16}'\)"):
            hpcfsl.run(make(3), out=tmp_path / "run")


def test_readers_of_a_run_that_goes_on_and_is_started_again(run: Runner, tmp_path: Path, expected: str) -> None:
    path, held = tmp_path / "run", []

    def read(progress: Any) -> None:
        found = hpcfsl.open(path)
        found.verify()
        held.extend(h5py.File(file, "r", locking=False) for file in path.rglob("*.h5"))
        for file in path.rglob("*.h5"):
            held.append(file.open("rb"))
            fcntl.flock(held[-1], fcntl.LOCK_SH)  # as h5py does in another process
        if progress.round == 2:
            (path / "updates" / "left_behind.h5").write_bytes(b"not committed")
            held.append((path / "updates" / "left_behind.h5").open("rb"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(listener=read)
    try:
        assert digest(run()) == expected  # while all of them are open
    finally:
        for file in held:
            file.close()
    assert len(held) > 4
    assert not (path / "updates" / "left_behind.h5").exists()
