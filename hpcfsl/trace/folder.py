"""The run folder: where its files are, how they are written so that a crash cannot tear them, and who may write.

Layer 3. A file appears whole or not at all: it is written to a temporary name, synced, renamed, and the directory is
synced. The root holds a kernel file lock while it runs; the kernel drops it when the process dies, however it dies,
so a folder whose status says `running` while the lock is free was cut off and can be resumed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from hpcfsl.errors import RunFolderError, one_line

Status = Literal["running", "resumable", "finished", "failed"]
TEMPORARY = ".partial"
_STATUSES: tuple[Status, ...] = get_args(Status)
_LOCK_WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_FIXES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EEXIST: "choose a path that is a folder or does not exist",
    errno.ENOENT: "check the path",
    errno.ENOLCK: "choose a file system with file locks",
    errno.ENOSYS: "choose a file system with file locks",
}


class RunFolder:
    """A run folder. Making the object touches nothing; `create` makes the folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.toml"
        self.status_file = self.path / "status"
        self.progress = self.path / "progress.jsonl"
        self.stop = self.path / "stop"
        self.lock_file = self.path / "lock"
        self.trace = self.path / "trace"
        self.updates = self.path / "updates"
        self.checkpoints = self.path / "checkpoints"

    def create(self) -> None:
        """Make the folder and its sub-folders where they do not exist.

        Raises:
            RunFolderError: It cannot be made.
        """
        for folder in (self.path, self.trace, self.updates, self.checkpoints):
            with folder_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def status(self) -> Status:
        """Return the run's status; `running` without a held lock, or no status at all, is `resumable`."""
        with folder_errors(self.status_file):
            text = self.status_file.read_text("utf-8", "replace").strip() if self.status_file.exists() else "resumable"
        status = next((each for each in _STATUSES if each == text), None)
        if status is None:
            raise RunFolderError(one_line(f"{self.status_file}: unknown status {text[:40]!r}; delete it to go on"))
        return "resumable" if status == "running" and not self.is_locked() else status

    def set_status(self, status: Status) -> None:
        """Write the status file."""
        write_atomic(self.status_file, f"{status}\n".encode())

    def add_progress(self, line: str) -> None:
        """Append one line to the progress file."""
        with folder_errors(self.progress), self.progress.open("ab+") as stream:
            # What a full disk cut off stays a line of its own, so that it spoils no other.
            torn = stream.tell() > 0 and os.pread(stream.fileno(), 1, stream.tell() - 1) != b"\n"
            stream.write(b"\n" * torn + one_line(line).encode() + b"\n")

    def is_locked(self) -> bool:
        """Return whether a process holds the lock."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH, self.lock_file)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, wait_seconds: float = _LOCK_WAIT_SECONDS) -> Iterator[None]:
        """Hold the run's lock while the context lasts.

        Args:
            wait_seconds: How long to wait for another holder: ranks outlive a killed launcher by about a second.

        Raises:
            RunFolderError: Another process holds the lock, or the folder cannot be written.
        """
        with folder_errors(self.lock_file):
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _wait_for_lock(descriptor, self.lock_file, wait_seconds)
            with folder_errors(self.lock_file):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{socket.gethostname()} process {os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)  # drops the lock


def write_atomic(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a file whole: temporary name, sync, rename, sync of the directory.

    Raises:
        RunFolderError: The folder cannot be written or the disk is full.
    """
    # A name of this process: ranks outlive a killed launcher by a moment, in which the next start may write the same.
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY}")
    with folder_errors(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            # What is left of the temporary file only takes space, which is what may be short.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and deletions in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def folder_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the context into a `RunFolderError` that names `path` and the fix."""
    try:
        yield
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "check the file system")
        reason = error.strerror or str(error)
        raise RunFolderError(one_line(f"{path}: {reason[0].lower()}{reason[1:]}; {fix}")) from error


def _try_lock(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        with folder_errors(path):
            raise error
    return True


def _wait_for_lock(descriptor: int, path: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while not _try_lock(descriptor, fcntl.LOCK_EX, path):
        if time.monotonic() >= deadline:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
            raise RunFolderError(one_line(f"{path.parent}: in use by {holder}; wait for it or choose another --out"))
        time.sleep(_POLL_SECONDS)
