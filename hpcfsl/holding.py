"""Holds the uploads of a rank's groups until all groups are scored, within a budget of memory.

Layer 4. A pooled threshold can judge nobody before everybody has a score, so a rank would hold the uploads of all its
clients. What goes beyond `run.hold_mib` waits in a scratch file: a file without a name, so that whatever ends the run
leaves nothing behind. Uploads come back bit for bit, so no result depends on the budget.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import UserError, one_line
from hpcfsl.group import ScoredGroup
from hpcfsl.training.updates import empty_updates

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class HeldGroup:
    """A scored group that waits.

    Attributes:
        scored: The group, without its uploads where they are in the scratch file.
        place: First byte of its uploads in the scratch file; None where they are in memory.
        shape: Shape of its uploads.
    """

    scored: ScoredGroup
    place: int | None
    shape: tuple[int, int]


class Holding:
    """The waiting groups of one round; a context manager that gives the scratch file back.

    Args:
        budget_bytes: Uploads that may wait in memory.
        folder: Where the scratch file goes once it is needed.
    """

    def __init__(self, budget_bytes: int, folder: Path) -> None:
        self._left, self._folder = budget_bytes, folder
        self._file: FileIO | None = None
        self._end = 0

    def __enter__(self) -> Holding:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the disk space back."""
        if self._file is not None:
            self._file.close()

    def put(self, scored: ScoredGroup) -> HeldGroup:
        """Take over a group; its uploads go into the scratch file where the budget is spent.

        Raises:
            UserError: The scratch file cannot be made or written.
        """
        uploads = scored.uploads
        rows, size = uploads.shape
        held = uploads.nbytes
        if held <= self._left:
            self._left -= held
            return HeldGroup(scored=scored, place=None, shape=(rows, size))
        place, self._end = self._end, self._end + held
        with self._problems(held, "written"):
            if self._file is None:
                self._file = _unnamed_file(self._folder)
            _write(self._file, uploads.cpu().contiguous().numpy(), place)
        return HeldGroup(scored=replace(scored, uploads=uploads.new_zeros(0)), place=place, shape=(rows, size))

    def get(self, held: HeldGroup) -> ScoredGroup:
        """Return a group with its uploads.

        Raises:
            UserError: The scratch file cannot be read, or has become shorter.
        """
        if held.place is None:
            return held.scored
        assert self._file is not None
        uploads = empty_updates(*held.shape)
        with self._problems(uploads.nbytes, "read"):
            _read(self._file, uploads.numpy(), held.place)
        return replace(held.scored, uploads=uploads.to(held.scored.uploads.device))

    @contextlib.contextmanager
    def _problems(self, count: int, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = f"{count / MIB:.0f} MiB of uploads cannot be {done} in a scratch file in {self._folder}"
            fix = "set TMPDIR to a folder with room, raise run.hold_mib, or start more ranks"
            raise UserError(one_line(f"{why} ({error.strerror or error}): {fix}")) from None


def scratch_folder(fallback: Path) -> Path:
    """Return where scratch files go: the folder that TMPDIR names, where it is set, else `fallback`."""
    return Path(os.environ.get("TMPDIR") or fallback)


def _unnamed_file(folder: Path) -> FileIO:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _write(file: FileIO, array: NDArray[np.float32], place: int) -> None:
    data, done = array.data.cast("B"), 0
    while done < len(data):
        done += os.pwrite(file.fileno(), data[done:], place + done)


def _read(file: FileIO, array: NDArray[np.float32], place: int) -> None:
    data, done = array.data.cast("B"), 0
    while done < len(data):
        count = os.preadv(file.fileno(), [data[done:]], place + done)
        if not count:
            raise OSError(f"it ends {len(data) - done} bytes too early")
        done += count
