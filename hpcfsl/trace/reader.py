"""Reads a run folder, finished or running, without torch and without MPI.

Layer 3. `open` takes the newest checkpoint's list of files as the run; each file's sha256 is checked when it is first
read, so a flipped byte raises and never misleads. Open the run again to see rounds committed since.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tomllib
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.trace.checkpoint import Header, list_checkpoints, read_header, read_weights
from hpcfsl.trace.column import Column
from hpcfsl.trace.files import CommittedFile, verify_file
from hpcfsl.trace.folder import RunFolder, Status, folder_errors
from hpcfsl.trace.hdf5 import reading
from hpcfsl.trace.schema import TABLES, find_column, find_table
from hpcfsl.trace.shards import round_of_shard
from hpcfsl.trace.updates import UpdateKey, read_keys, read_vector, rounds_of_file

if TYPE_CHECKING:
    import pandas


class Run:
    """A run folder, open for reading. No file stays open between calls.

    Args:
        folder: The run folder.

    Raises:
        RunFolderError: It is not a run folder, or its newest checkpoint is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self._folder = folder
        self._verified: set[str] = set()
        self._rows: dict[str, dict[UpdateKey, int]] = {}
        newest = list_checkpoints(folder)[:1]
        if not newest and not folder.config.is_file():
            raise RunFolderError(one_line(f"{folder.path}: not a run folder; name what was given as --out"))
        self._header: Header | None = read_header(newest[0]) if newest else None

    @property
    def status(self) -> Status:
        """`running`, `resumable`, `finished` or `failed`, at this moment."""
        return self._folder.status()

    @property
    def rounds_done(self) -> int:
        """Number of committed rounds."""
        return self._header.next_round if self._header else 0

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the score components."""
        return self._header.texts.component_names if self._header else ()

    @property
    def result_settings(self) -> str:
        """The settings that bear on the result, canonical JSON; empty before the first commit."""
        return self._header.texts.result_settings if self._header else ""

    @cached_property
    def config_text(self) -> str:
        """The configuration of the last commit (of `config.toml` where there is none yet), TOML."""
        if self._header:
            return self._header.texts.config_text
        with folder_errors(self._folder.config):
            return self._folder.config.read_bytes().decode("utf-8", "replace")

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration as a tree."""
        try:
            return tomllib.loads(self.config_text)
        except tomllib.TOMLDecodeError as error:
            raise RunFolderError(one_line(f"{self._folder.config}: not TOML ({error}); restore it")) from error

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, machine and command line of the last start; empty before the first commit."""
        found: dict[str, Any] = json.loads(self._header.texts.provenance) if self._header else {}
        return found

    def verify(self) -> None:
        """Check every committed file against the checkpoint's list.

        Raises:
            RunFolderError: The first file that is missing or not as committed.
        """
        for path in list_checkpoints(self._folder):
            try:
                read_header(path)
            except RunFolderError:
                if path.exists():  # a run that goes on deletes the older one at any moment
                    raise
        self._verified.clear()
        for file in self._files(""):
            try:
                self._check(file)
            except RunFolderError:
                # A run that goes on deletes a checkpoint's shards with it.
                if round_of_shard(file.path) is None or (self._header and self._header.path.exists()):
                    raise

    def table(self, name: str) -> dict[str, NDArray[Any]]:
        """Return a table, column name -> values [rows] or [rows, axis]; text as `bytes`, codes as integers.

        Raises:
            KeyError: There is no such table.
            RunFolderError: A segment is damaged.
        """
        parts = [self.empty(name), *self.segments(name)]
        return {column.name: np.concatenate([part[column.name] for part in parts]) for column in TABLES[name]}

    def empty(self, name: str) -> dict[str, NDArray[Any]]:
        """Return a table without rows; raises KeyError as `table`."""
        count = len(self.component_names)
        return {column.name: np.empty(column.shape(0, count), column.numpy) for column in find_table(name)}

    def column(self, table: str, name: str) -> NDArray[Any]:
        """Return one column of a table; raises as `table`."""
        find_column(table, name)
        parts = [self.empty(table), *self.segments(table, (name,))]
        return np.concatenate([part[name] for part in parts])

    def segments(self, table: str, names: tuple[str, ...] | None = None) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield a table segment by segment, in order of rounds; only the columns `names` where given.

        What an older minor version did not record has missing values, NaN or else 0 (codes: the first one).
        """
        wanted = [column for column in TABLES[table] if names is None or column.name in names]
        for file in self._files("trace/"):
            with self._open(file) as opened:
                found = opened.get(table, {})
                # A table's first column was there from the start; axes and starts of rounds have other lengths.
                first = TABLES[table][0].name
                rows = len(found[first]) if first in found else 0
                part = {
                    column.name: found[column.name][()] if column.name in found else self._absent(column, rows)
                    for column in wanted
                }
            yield part

    def _absent(self, column: Column, rows: int) -> NDArray[Any]:
        shape = column.shape(rows, len(self.component_names))
        return np.full(shape, 0 if column.missing is None else column.missing, column.numpy)

    def frame(self, name: str) -> pandas.DataFrame:
        """Return a table as a flat pandas frame: `components` and `sketch` spread over columns, text decoded."""
        import pandas

        return pandas.DataFrame(dict(self.flat(name, self.table(name))))

    def flat(self, name: str, rows: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield the columns of `rows` of a table as pairs of name and values [rows]; text as `str`."""
        for column in TABLES[name]:
            values = rows[column.name]
            if column.axis is None:
                yield column.name, values.astype(str).astype(object) if column.is_text else values
                continue
            labels = self.component_names if column.axis == "component" else range(values.shape[1])
            for number, label in enumerate(labels):
                yield f"{column.name.removesuffix('s')}_{label}", values[:, number]

    def labels(self, table: str, column: str) -> tuple[str, ...]:
        """Return the names of the codes 0, 1, ... of a column; empty where its values are not codes."""
        return find_column(table, column).flags

    def update_keys(self) -> list[UpdateKey]:
        """Return the keys of all recorded updates, sorted."""
        return sorted(key for file in self._files("updates/") for key in self._keys(file))

    def updates(self, end_round: int | None = None) -> Iterator[tuple[UpdateKey, NDArray[Any]]]:
        """Yield all recorded updates of rounds before `end_round` in the order of keys, as stored."""
        for round, keys in itertools.groupby(self.update_keys(), key=lambda key: key.round):
            if end_round is not None and round >= end_round:
                return
            with contextlib.ExitStack() as stack:
                files = self._update_files(round)
                opened = [(self._keys(file), stack.enter_context(self._open(file))) for file in files]
                for key in keys:
                    yield key, next(read_vector(file, key.kind, rows[key]) for rows, file in opened if key in rows)

    def global_update(self, round: int) -> NDArray[np.float32]:
        """Return the recorded global update of a round, float32 [params].

        Raises:
            RunFolderError: It was not recorded, or the file is damaged.
        """
        return self._update(UpdateKey(round, "global", -1))

    def group_update(self, round: int, group: int) -> NDArray[np.float32]:
        """Return the recorded second model update of a group; raises as `global_update`."""
        return self._update(UpdateKey(round, "group", group))

    def client_update(self, round: int, client: int) -> NDArray[np.float32]:
        """Return the recorded first model update of a client; raises as `global_update`."""
        return self._update(UpdateKey(round, "client", client))

    def weights(self) -> NDArray[np.float32]:
        """Return the global model of the newest checkpoint, float32 [params].

        Raises:
            RunFolderError: Nothing was committed yet.
        """
        if self._header is None:
            raise RunFolderError(one_line(f"{self.path}: no checkpoint yet; wait for the first one"))
        return read_weights(self._header.path)

    def _update(self, key: UpdateKey) -> NDArray[np.float32]:
        for file in self._update_files(key.round):
            row = self._keys(file).get(key)
            if row is not None:
                with self._open(file) as opened:
                    return read_vector(opened, key.kind, row).astype(np.float32, copy=False)
        raise RunFolderError(one_line(f"{self.path}: {key.name} was not recorded; update_keys() lists what was"))

    def _keys(self, file: CommittedFile) -> dict[UpdateKey, int]:
        """Return the rows of a file of updates by key."""
        if file.path not in self._rows:
            with self._open(file) as opened:
                self._rows[file.path] = dict(read_keys(opened))
        return self._rows[file.path]

    def _files(self, prefix: str) -> list[CommittedFile]:
        files = self._header.files if self._header else ()
        return sorted((file for file in files if file.path.startswith(prefix)), key=lambda file: file.path)

    def _update_files(self, round: int) -> list[CommittedFile]:
        return [file for file in self._files("updates/") if round in rounds_of_file(file.path)]

    @contextlib.contextmanager
    def _open(self, file: CommittedFile) -> Iterator[Any]:
        if file.path not in self._verified:
            self._check(file)
        with reading(self._folder.path / file.path) as opened:
            yield opened

    def _check(self, file: CommittedFile) -> None:
        verify_file(self._folder, file)
        self._verified.add(file.path)


def open(path: str | os.PathLike[str]) -> Run:
    """Open a run folder for reading.

    Raises:
        RunFolderError: It is not a run folder, it is damaged, or it is of an unknown major version.
    """
    return Run(RunFolder(path))
