from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import folder as folder_module
from hpcfsl.trace.folder import RunFolder, write_atomic


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "deep" / "run")
    made.create()
    return made


def test_create_makes_all_folders_and_may_be_repeated(folder: RunFolder) -> None:
    folder.create()
    assert folder.trace.is_dir()
    assert folder.updates.is_dir()
    assert folder.checkpoints.is_dir()


def test_create_under_a_file_names_the_path_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        RunFolderError, match=r"file/run: not a directory; choose a path whose parents are folders"
    ) as info:
        RunFolder(tmp_path / "file" / "run").create()
    assert "\n" not in str(info.value)


def test_status_is_kept(folder: RunFolder) -> None:
    assert folder.status() == "resumable"
    for status in ("finished", "failed", "resumable"):
        folder.set_status(status)
        assert folder.status() == status


def test_running_without_the_lock_is_resumable(folder: RunFolder) -> None:
    folder.set_status("running")
    assert folder.status() == "resumable"
    with folder.lock():
        assert folder.is_locked()
        assert folder.status() == "running"
    assert folder.status() == "resumable"


def test_unknown_status_is_an_error(folder: RunFolder) -> None:
    folder.status_file.write_bytes(b"\xffasleep\n\n")
    with pytest.raises(RunFolderError, match=r"status: unknown status .*asleep.*; delete it to go on"):
        folder.status()


def test_second_holder_is_refused_and_told_by_whom(folder: RunFolder) -> None:
    expected = rf"in use by .* process {os.getpid()}; wait for it or choose another --out"
    with folder.lock(), pytest.raises(RunFolderError, match=expected), folder.lock(wait_seconds=0.1):
        pass


def test_second_holder_waits(folder: RunFolder) -> None:
    release = threading.Event()

    def hold() -> None:
        with folder.lock():
            release.wait(5)

    first = threading.Thread(target=hold)
    first.start()
    while not folder.is_locked():
        time.sleep(0.01)
    threading.Timer(0.2, release.set).start()
    with folder.lock(wait_seconds=5):
        assert release.is_set()
    first.join()


def test_the_kernel_drops_the_lock_of_a_killed_process(folder: RunFolder) -> None:
    program = (
        "import sys, time; from hpcfsl.trace.folder import RunFolder; f = RunFolder(sys.argv[1])\n"
        "with f.lock():\n    f.set_status('running'); print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert folder.status() == "running"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder.status() == "resumable"
    with folder.lock(wait_seconds=0):
        pass


def test_file_system_without_locks(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(RunFolderError, match=r"lock: no locks available; choose a file system with file locks"),
        folder.lock(),
    ):
        pass


def test_lock_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="check the path"), RunFolder(tmp_path / "none").lock():
        pass


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "no space left on device; free some space and run the same command again"),
        (errno.EROFS, "read-only file system; choose a folder that can be written to"),
        (errno.EIO, "input/output error; check the file system"),
    ],
)
def test_failed_write_leaves_the_old_file_and_no_other(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, code: int, fix: str
) -> None:
    path = folder.path / "file"
    write_atomic(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder_module.os, "fsync", fail)
    with pytest.raises(RunFolderError, match=f"file: {fix}"):
        write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in folder.path.iterdir() if entry.is_file()] == ["file"]


def test_write_replaces_whole(folder: RunFolder) -> None:
    write_atomic(folder.config, b"a much longer text")
    write_atomic(folder.config, memoryview(b"short"))
    assert folder.config.read_bytes() == b"short"


def test_progress_lines_are_appended(folder: RunFolder) -> None:
    folder.add_progress('{"round": 0}')
    folder.add_progress('{"round": 1,\n "x": 2}')
    assert folder.progress.read_text() == '{"round": 0}\n{"round": 1, "x": 2}\n'


def test_error_without_a_number_still_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"x: Strange|x: strange"), folder_module.folder_errors(tmp_path / "x"):
        raise OSError("Strange")
