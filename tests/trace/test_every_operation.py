"""A crash between any two operations on files, of a run that commits three times: the same command continues it.

Two kinds of crash. The process is killed: what it did is there, what it did not is not. The power goes: what was
not synced is not there either, bytes of files and names in directories. Every operation of the whole run is tried.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.trace import reader
from hpcfsl.trace.checkpoint import discard_uncommitted, latest_checkpoint, list_checkpoints
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder, write_atomic
from hpcfsl.trace.shards import read_shards

ROUNDS = 3


class Crash(BaseException):
    """The process ends here; no handler of it runs to any effect."""


class Disk:
    """Counts the operations of a process on files, ends it before the one numbered `crash_at`, and can lose power."""

    def __init__(self, crash_at: int | None) -> None:
        self.crash_at, self.operations, self._crashed = crash_at, [], False
        self._unsynced_files: set[Path] = set()
        self._undo: list[tuple[Path, Callable[[], object]]] = []  # directory, how to take back a change of its names

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        real = {name: getattr(Path, name) for name in ("open", "replace", "unlink")}
        fsync = os.fsync

        def open_path(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if "w" in mode:
                self._step(f"open {path.name}")
                self._unsynced_files.add(path)
                self._undo.append((path.parent, lambda: real["unlink"](path, missing_ok=True)))
            return real["open"](path, mode, *rest, **named)

        def replace(path: Path, target: Path) -> Path:
            self._step(f"rename {target.name}")
            before = target.read_bytes() if target.exists() else None
            after = path.read_bytes()
            self._undo.append((path.parent, lambda: self._put_back(path, target, after, before)))
            return real["replace"](path, target)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            self._step(f"unlink {path.name}")
            if path.exists():
                data = path.read_bytes()
                self._undo.append((path.parent, lambda: path.write_bytes(data)))
            real["unlink"](path, missing_ok)

        def sync(descriptor: int) -> None:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self._step(f"sync {path.name}")
            fsync(descriptor)
            self._unsynced_files.discard(path)
            self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]

        with pytest.MonkeyPatch.context() as patch:
            for name, function in (("open", open_path), ("replace", replace), ("unlink", unlink)):
                patch.setattr(Path, name, function)
            patch.setattr(os, "fsync", sync)
            yield

    def lose_power(self) -> None:
        """Take back what no sync made durable, as far as a disk may."""
        for path in self._unsynced_files:
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for _, undo in reversed(self._undo):
            undo()

    def _step(self, what: str) -> None:
        if self._crashed or len(self.operations) == self.crash_at:
            self._crashed = True  # and what clean-up handlers try comes too late as well
            raise Crash(what)
        self.operations.append(what)

    @staticmethod
    def _put_back(path: Path, target: Path, data: bytes, before: bytes | None) -> None:
        path.write_bytes(data)
        if before is None:
            target.unlink(missing_ok=True)
        else:
            target.write_bytes(before)


def simulate(maker: Any, path: Path) -> None:
    """Start or continue a run as `hpcfsl.simulation.simulate` does: the same steps on files in the same order."""
    folder = RunFolder(path)
    folder.create()
    with folder.lock(wait_seconds=0):
        loaded = latest_checkpoint(folder)
        discard_uncommitted(folder, loaded)
        folder.stop.unlink(missing_ok=True)
        write_atomic(folder.config, maker.config.encode())
        folder.set_status("running")
        writer = maker.writer(path, SerialCommunicator(), buffer_bytes=1 << 20)
        start = 0 if loaded is None else loaded.checkpoint.next_round
        clients = np.zeros(4)
        if loaded is not None:
            clients = read_shards(folder, loaded.header.files, [0])["sum"]
        for round in range(start, ROUNDS):
            clients += round + 1
            writer.add_update(round=round, vector=maker.update(round, -1))
            writer.add_round(maker.record(round))
            folder.add_progress(f'{{"round": {round}}}')
            writer.commit(maker.checkpoint(round, round + 1), {"clients": np.arange(4.0), "sum": clients})
        folder.set_status("finished")


def last_clients(path: Path) -> list[float]:
    (newest, *_), folder = list_checkpoints(RunFolder(path)), RunFolder(path)
    assert newest.name == f"round_{ROUNDS:06d}.h5"
    loaded = latest_checkpoint(folder)
    return read_shards(folder, loaded.header.files, [0])["sum"].tolist()


@pytest.mark.timeout(1200)  # 40 seconds where nobody else works
@pytest.mark.parametrize("power", [False, True], ids=["killed", "power lost"])
def test_a_crash_before_any_operation(maker: Any, tmp_path: Path, power: bool) -> None:
    disk = Disk(None)
    with disk.watching():
        simulate(maker, tmp_path / "calm")
    expected = digest(reader.open(tmp_path / "calm"))
    total = len(disk.operations)
    # config, status, three commits of four files each, status: four operations a file, and what is deleted.
    assert total > 4 * (1 + 1 + 3 * 4 + 1)
    assert {name.split()[0] for name in disk.operations} == {"open", "sync", "rename", "unlink"}
    for crash_at in range(total):
        run = tmp_path / f"{crash_at}"
        crashed = Disk(crash_at)
        with crashed.watching(), contextlib.suppress(Crash):
            simulate(maker, run)
        assert len(crashed.operations) == crash_at
        if power:
            crashed.lose_power()
        after = len(list_checkpoints(RunFolder(run)))
        simulate(maker, run)
        where = f"crash before {disk.operations[crash_at]}, {after} checkpoints"
        assert digest(reader.open(run)) == expected, where
        assert last_clients(run) == [6.0] * 4, where
        assert RunFolder(run).status() == "finished"
        reader.open(run).verify()
        assert not list(run.rglob("*.partial")), where


def test_a_crash_of_the_restart_too(maker: Any, tmp_path: Path) -> None:
    simulate(maker, tmp_path / "calm")
    expected = digest(reader.open(tmp_path / "calm"))
    for crash_at in range(9, 60, 14):
        run = tmp_path / f"{crash_at}"
        for step in range(8):  # the same run again and again, each time a little further
            disk = Disk(crash_at + step)
            with disk.watching(), contextlib.suppress(Crash):
                simulate(maker, run)
            disk.lose_power()
        simulate(maker, run)
        assert digest(reader.open(run)) == expected


def test_the_disk_of_this_test_loses_what_was_not_synced(tmp_path: Path) -> None:
    kept, lost = tmp_path / "kept", tmp_path / "lost"
    disk = Disk(None)
    with disk.watching():
        write_atomic(kept, b"old")
        with lost.open("wb") as stream:
            stream.write(b"12345678")
        renamed = kept.with_name("new")
        renamed.write_bytes(b"new")
        renamed.replace(kept)
    disk.lose_power()
    assert kept.read_bytes() == b"old"
    assert not lost.exists()
