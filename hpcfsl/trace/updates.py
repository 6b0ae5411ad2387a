"""Recorded updates: each rank buffers the vectors it has and writes them as files of its own.

Layer 3. Vectors are flat, in model order, client half first. They are stored uncompressed: noise does not compress,
and raw chunks are written at the speed of the disk. Which rank wrote what carries no meaning: readers go by key.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.files import CommittedFile, write_committed
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.hdf5 import build, described, put_attributes, put_dimension, put_vector

_KINDS = ("client", "global", "group")
_NAME = re.compile(r"round_(\d{6,})/(?:(global)|(group)_(\d{4,})|(client)_(\d{10,}))")
_FILE = re.compile(r"rounds_(\d{6,})_(\d{6,})_rank_\d{4,}_part_\d{4,}\.h5")
_TITLES = {"global": "global update", "group": "second model update", "client": "first model update"}


class UpdateKey(NamedTuple):
    """Names one recorded vector; sorts by round, then kind, then number.

    Attributes:
        round: The round.
        kind: `client` (first model update), `global` (global update) or `group` (second model update).
        number: The client or the group; -1 for the global update.
    """

    round: int
    kind: str
    number: int

    @property
    def dataset(self) -> str:
        """Path of the dataset in its file."""
        width = {"client": 10, "group": 4, "global": 0}[self.kind]
        return f"round_{self.round:06d}/{self.kind}" + (f"_{self.number:0{width}d}" if width else "")


def parse_key(dataset: str) -> UpdateKey | None:
    """Return the key of a dataset's path; None where the path is not one of an update."""
    found = _NAME.fullmatch(dataset)
    if found is None:
        return None
    kind = found[2] or found[3] or found[5]
    return UpdateKey(int(found[1]), kind, int(found[4] or found[6] or -1))


def rounds_of_file(path: str) -> range:
    """Return the rounds that an update file may hold, from its path; empty for another file."""
    found = _FILE.fullmatch(path.rsplit("/", 1)[-1])
    return range(int(found[1]), int(found[2])) if found else range(0)


class UpdateBuffer:
    """The vectors that a rank has recorded and not yet written.

    Args:
        folder: The run folder.
        rank: This rank, for the names of its files.
        buffer_bytes: A file is written when the buffered vectors reach this size.
        dtype: `float32` or `float16`. Entries beyond 65504 become infinite in `float16`.
    """

    def __init__(self, *, folder: RunFolder, rank: int, buffer_bytes: int, dtype: str) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"update dtype {dtype!r}; choose float32 or float16")
        self._folder, self._rank, self._limit = folder, rank, buffer_bytes
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._vectors: dict[UpdateKey, NDArray[Any]] = {}
        self._held = 0
        self._seen: set[UpdateKey] = set()
        self._files: list[CommittedFile] = []

    def add(self, key: UpdateKey, vector: NDArray[Any]) -> None:
        """Take a copy of a vector, float [params]; write a file when the buffer is full.

        Raises:
            ValueError: The key was recorded before, or the vector is not one-dimensional.
            RunFolderError: The file cannot be written.
        """
        if key in self._seen or vector.ndim != 1:
            raise ValueError(f"{key}: recorded twice, or shape {vector.shape} is not a vector")
        with np.errstate(over="ignore"):
            copy = vector.astype(self._dtype, copy=True)
        self._seen.add(key)
        self._vectors[key] = copy
        self._held += copy.nbytes
        if self._held >= self._limit:
            self._write()

    def finish(self) -> list[CommittedFile]:
        """Write what is left and return the files written since the last call.

        Raises:
            RunFolderError: The file cannot be written.
        """
        if self._vectors:
            self._write()
        files, self._files = self._files, []
        self._seen.clear()
        return files

    def _write(self) -> None:
        rounds = [key.round for key in self._vectors]
        name = f"rounds_{min(rounds):06d}_{max(rounds) + 1:06d}_rank_{self._rank:04d}_part_{len(self._files):04d}.h5"
        data = build(self._fill)
        self._files.append(write_committed(self._folder, self._folder.updates / name, data))
        self._vectors, self._held = {}, 0

    def _fill(self, file: Any) -> None:
        for key, vector in self._vectors.items():
            dataset = put_vector(file, key.dataset, vector)
            # A scale of its own for each round: a scale lists all that use it, so one for all costs the square of them.
            scale = put_dimension(dataset.parent, f"parameter_{vector.size}", vector.size)
            dataset.dims[0].attach_scale(scale)
            title, description = _TITLES[key.kind], "Flat vector in model order, client half first."
            put_attributes(dataset, described("1", title, description, True))
