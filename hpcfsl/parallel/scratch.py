"""Arrays that do not fit into memory, in a file without a name: whatever ends the run leaves nothing behind.

The disk space is given back when the file is closed, with its owner, or with the process. Arrays come back bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hpcfsl.errors import UserError, one_line

MIB = 2**20


class ScratchFile:
    """One such file, made when it is first written to.

    Args:
        folder: Where it goes.
        setting: The setting to raise where there is no room, for errors.
        content: What is in it, for errors.
    """

    def __init__(self, folder: Path, *, setting: str, content: str) -> None:
        self._folder, self._setting, self._content = folder, setting, content
        self._file: FileIO | None = None

    def write(self, array: NDArray[Any], place: int) -> None:
        """Write an array, C-contiguous, from byte `place` on.

        Raises:
            UserError: The file cannot be made or written.
        """
        with self._problems(array.nbytes, "written"):
            if self._file is None:
                self._file = _unnamed_file(self._folder)
                weakref.finalize(self, self._file.close)
            _write(self._file, array, place)

    def read(self, array: NDArray[Any], place: int) -> None:
        """Fill an array, C-contiguous, from byte `place` on.

        Raises:
            UserError: The file cannot be read, or has become shorter.
        """
        assert self._file is not None, "something was written before"
        with self._problems(array.nbytes, "read"):
            _read(self._file, array, place)

    def close(self) -> None:
        """Give the disk space back; a later `write` makes another file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    @contextlib.contextmanager
    def _problems(self, count: int, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{count / MIB:.0f} MiB of {self._content} cannot be {done} in a scratch file in {self._folder}"
            fix = f"set TMPDIR to a folder with room, raise {self._setting}, or start more ranks"
            raise UserError(one_line(f"{why} ({error.strerror or error}): {fix}")) from None


def scratch_folder(fallback: Path) -> Path:
    """Return where scratch files go: the folder that TMPDIR names, where it is set, else `fallback`."""
    return Path(os.environ.get("TMPDIR") or fallback)


def _unnamed_file(folder: Path) -> FileIO:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _write(file: FileIO, array: NDArray[Any], place: int) -> None:
    data, done = array.data.cast("B"), 0
    while done < len(data):
        done += os.pwrite(file.fileno(), data[done:], place + done)


def _read(file: FileIO, array: NDArray[Any], place: int) -> None:
    data, done = array.data.cast("B"), 0
    while done < len(data):
        count = os.preadv(file.fileno(), [data[done:]], place + done)
        if not count:
            raise OSError(f"it ends {len(data) - done} bytes too early")
        done += count
