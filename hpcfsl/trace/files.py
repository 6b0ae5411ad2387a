"""The committed files of a run and their checksums.

Layer 3. HDF5's own checksums do not cover metadata, so each committed file is known by the sha256 of all its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpcfsl.trace.folder import RunFolder, folder_errors, write_atomic
from hpcfsl.trace.hdf5 import DamagedFileError


@dataclass(frozen=True, kw_only=True)
class CommittedFile:
    """One file of a run.

    Attributes:
        path: Path relative to the run folder, with `/`.
        sha256: Hexadecimal.
        bytes: Size of the file.
    """

    path: str
    sha256: str
    bytes: int


def write_committed(folder: RunFolder, path: Path, data: bytes | memoryview) -> CommittedFile:
    """Write a file of the run whole and return its entry for the manifest."""
    write_atomic(path, data)
    name = path.relative_to(folder.path).as_posix()
    return CommittedFile(path=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def verify_file(folder: RunFolder, file: CommittedFile) -> None:
    """Check a file against its entry.

    Raises:
        DamagedFileError: It is missing, or its bytes are not those committed.
    """
    path = folder.path / file.path
    with folder_errors(path):
        if not path.is_file():
            raise DamagedFileError(path, "missing")
        size = path.stat().st_size
        if size != file.bytes:
            raise DamagedFileError(path, f"{size} bytes instead of {file.bytes}")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        raise DamagedFileError(path, "its sha256 is not the one committed")


def verify_files(folder: RunFolder, files: Iterable[CommittedFile]) -> None:
    """Check many files; raises as `verify_file` for the first that is damaged."""
    for file in files:
        verify_file(folder, file)
