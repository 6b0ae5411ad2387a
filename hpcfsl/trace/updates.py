"""Recorded updates: each rank buffers the vectors it has and writes them as files of its own.

Layer 3. A file has one dataset [row, parameter] for each kind of update, with the keys of its rows beside it: a
thousand vectors cost a thousand chunks, not as many datasets. Vectors are flat, in model order, client half first, and
stored uncompressed: noise does not compress, and raw chunks are written at the speed of the disk. Which rank wrote what
carries no meaning: readers go by key.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.files import CommittedFile, write_committed
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.hdf5 import build, described, put_attributes, put_dimension, put_rows, put_vector

_FILE = re.compile(r"rounds_(\d{6,})_(\d{6,})_rank_\d{4,}_part_\d{4,}_start_[0-9a-f]{8}\.h5")
_TITLES = {"client": "first model update", "global": "global update", "group": "second model update"}
_WIDTHS = {"client": 10, "group": 4}
VECTORS = "update"


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
    def name(self) -> str:
        """What messages and the digest call it, such as `round_000012/group_0003`."""
        number = f"_{self.number:0{_WIDTHS[self.kind]}d}" if self.kind in _WIDTHS else ""
        return f"round_{self.round:06d}/{self.kind}{number}"


def rounds_of_file(path: str) -> range:
    """Return the rounds that an update file may hold, from its path; empty for another file."""
    found = _FILE.fullmatch(path.rsplit("/", 1)[-1])
    return range(int(found[1]), int(found[2])) if found else range(0)


def read_keys(file: Any) -> list[tuple[UpdateKey, int]]:
    """Return the keys of all vectors of an open file, each with its row in the dataset of its kind."""
    found: list[tuple[UpdateKey, int]] = []
    for kind in _TITLES:
        if kind in file:
            rounds = file[kind]["round"][()].tolist()
            numbers = file[kind][kind][()].tolist() if kind in _WIDTHS else [-1] * len(rounds)
            keys = zip(rounds, numbers, strict=True)
            found += [(UpdateKey(round, kind, number), row) for row, (round, number) in enumerate(keys)]
    return found


def read_vector(file: Any, kind: str, row: int) -> NDArray[Any]:
    """Return one vector of an open file, [params], as stored."""
    vector: NDArray[Any] = file[kind][VECTORS][row]
    return vector


class UpdateBuffer:
    """The vectors that a rank has recorded and not yet written.

    Args:
        folder: The run folder.
        rank: This rank, for the names of its files.
        start: Eight hexadecimal digits that no other start of the run has, for the names too. Ranks outlive a killed
            launcher by a moment: what they still write must not take the place of what the next start commits.
        buffer_bytes: A file is written when the buffered vectors reach this size.
        dtype: `float32` or `float16`. Entries beyond 65504 become infinite in `float16`.
    """

    def __init__(self, *, folder: RunFolder, rank: int, start: str, buffer_bytes: int, dtype: str) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"update dtype {dtype!r}; choose float32 or float16")
        self._folder, self._limit = folder, buffer_bytes
        self._suffix = f"rank_{rank:04d}_part_{{:04d}}_start_{start}.h5"
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._vectors: dict[UpdateKey, NDArray[Any]] = {}
        self._sizes: dict[str, int] = {}
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
        if self._sizes.get(key.kind, vector.size) != vector.size:
            self._write()  # the rows of a dataset have one length
        # A vector that fills the buffer is written before this returns, so it need not be held a second time.
        fills = self._held + vector.size * self._dtype.itemsize >= self._limit
        with np.errstate(over="ignore"):
            held = np.ascontiguousarray(vector, self._dtype) if fills else vector.astype(self._dtype)
        self._seen.add(key)
        self._vectors[key], self._sizes[key.kind] = held, held.size
        self._held += held.nbytes
        if fills:
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
        name = f"rounds_{min(rounds):06d}_{max(rounds) + 1:06d}_" + self._suffix.format(len(self._files))
        data = build(self._fill)
        self._vectors, self._sizes, self._held = {}, {}, 0
        self._files.append(write_committed(self._folder, self._folder.updates / name, data))

    def _fill(self, file: Any) -> None:
        kinds: dict[str, list[UpdateKey]] = defaultdict(list)
        for key in sorted(self._vectors):
            kinds[key.kind].append(key)
        for kind, keys in kinds.items():
            _put_kind(file.create_group(kind), kind, keys, [self._vectors[key] for key in keys])


def _put_kind(group: Any, kind: str, keys: list[UpdateKey], vectors: list[NDArray[Any]]) -> None:
    """Write the vectors of one kind and the keys of its rows."""
    row, parameter = put_dimension(group, "row", len(keys)), put_dimension(group, "parameter", vectors[0].size)
    columns = {"round": np.array([key.round for key in keys], "<i4")}
    if kind in _WIDTHS:
        columns[kind] = np.array([key.number for key in keys], "<i8")
    for name, values in columns.items():
        column = put_vector(group, name, values)
        column.dims[0].attach_scale(row)
        put_attributes(column, described("1", name, f"The {name} of each row.", True))
    dataset = put_rows(group, VECTORS, vectors)
    dataset.dims[0].attach_scale(row)
    dataset.dims[1].attach_scale(parameter)
    description = "Flat vectors in model order, client half first; a row each."
    put_attributes(dataset, described("1", _TITLES[kind], description, True))
