"""Writes a run's trace: rows and updates are buffered while training goes on and committed together.

Layer 3. `commit` is the only collective call and the only one after which anything counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import RunFolderError
from hpcfsl.parallel.communicator import AgreedError, Communicator
from hpcfsl.trace.checkpoint import Checkpoint, list_checkpoints, read_header, write_checkpoint
from hpcfsl.trace.files import CommittedFile, write_committed
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.record import RoundRecord, RunTexts
from hpcfsl.trace.segment import RowBuffer, segment_bytes, segment_name
from hpcfsl.trace.shards import Arrays, Vectors, round_of_shard, write_shard, write_vectors
from hpcfsl.trace.updates import UpdateBuffer, UpdateKey


class TraceWriter:
    """Collective. The trace of one start of a run. At a restart call `discard_uncommitted` first.

    Args:
        folder: The run folder; made where it does not exist.
        communicator: The ranks of the run.
        config_text: The resolved configuration, TOML.
        provenance: Versions, machine and command line, JSON.
        result_settings: The settings that bear on the result, canonical JSON; part of the digest.
        component_names: Names of the score components.
        buffer_bytes: Size of the buffered updates at which a rank writes a file.
        update_dtype: `float32` or `float16`, for updates.

    Raises:
        RunFolderError: The folder cannot be written, or its newest checkpoint is damaged.
    """

    def __init__(
        self,
        *,
        folder: RunFolder,
        communicator: Communicator,
        config_text: str,
        provenance: str,
        result_settings: str,
        component_names: tuple[str, ...],
        buffer_bytes: int,
        update_dtype: str,
    ) -> None:
        self._folder, self._communicator = folder, communicator
        self._texts = RunTexts(
            config_text=config_text,
            provenance=provenance,
            result_settings=result_settings,
            component_names=component_names,
        )
        self._rows = RowBuffer(len(component_names))
        self._updates = UpdateBuffer(
            folder=folder,
            rank=communicator.rank,
            start=communicator.gather_all(secrets.token_hex(4))[0],
            buffer_bytes=buffer_bytes,
            dtype=update_dtype,
        )
        self._committed: list[CommittedFile] = []
        self._next_round = 0
        folder.create()
        if communicator.rank == 0:
            self._continue()

    def add_round(self, record: RoundRecord) -> None:
        """Buffer the rows of a round on the root; other ranks' rows are not looked at.

        Raises:
            ValueError: The record does not fit the schema, or its round is not past those before.
        """
        if self._communicator.rank == 0:
            self._rows.add(record)

    def add_update(
        self, *, round: int, group: int | None = None, client: int | None = None, vector: NDArray[np.float32]
    ) -> None:
        """Buffer a copy of an update on the rank that has it; write a file when the buffer is full.

        Args:
            round: The round.
            group: The group, for its second model update.
            client: The client, for its first model update. With neither, the vector is the global update.
            vector: The update, [params].

        Raises:
            ValueError: Both group and client are given, or the same update was recorded before.
            RunFolderError: The file cannot be written.
        """
        if group is not None and client is not None:
            raise ValueError("an update belongs to a group or to a client, not to both")
        key = UpdateKey(round, "global", -1)
        if group is not None:
            key = UpdateKey(round, "group", group)
        elif client is not None:
            key = UpdateKey(round, "client", client)
        self._updates.add(key, vector)

    def commit(
        self,
        checkpoint: Checkpoint,
        clients: Arrays | None = None,
        vectors: Mapping[str, Iterable[Vectors]] | None = None,
    ) -> None:
        """Collective. Write all that is buffered; then root's checkpoint, which makes it count.

        No rank returns before the checkpoint is on disk. A rank that cannot write makes every rank raise, so none is
        left waiting for it.

        Args:
            checkpoint: What every rank knows; only root's is used.
            clients: What this rank alone remembers, its part of the checkpoint: arrays by name, [clients] each.
            vectors: Vectors that this rank alone keeps, by name, some clients' at a time: each lot becomes a file.

        Raises:
            AgreedError: Some rank could not write; raised on every rank.
            ValueError: The checkpoint does not continue the one before.
        """
        files: list[CommittedFile] = []

        def write() -> None:
            files.extend(self._updates.finish())
            files.extend(self._shard(checkpoint, clients or {}))
            files.extend(self._write_vectors(checkpoint, vectors or {}))

        problem = _problem(write)
        everyone = self._communicator.gather_all((files, problem))
        _raise_first([problem for _, problem in everyone])
        if self._communicator.rank == 0:
            written = sorted((file for files, _ in everyone for file in files), key=lambda file: file.path)
            problem = _problem(lambda: self._commit_root(checkpoint, written))
        _raise_first(self._communicator.gather_all(problem))

    def _continue(self) -> None:
        for path in list_checkpoints(self._folder)[:1]:
            header = read_header(path)
            self._committed, self._next_round = _lasting(header.files), header.next_round

    def _commit_root(self, checkpoint: Checkpoint, written: list[CommittedFile]) -> None:
        start, end = checkpoint.segment_start, checkpoint.next_round
        if start != self._next_round or end < start:
            raise ValueError(f"segment of rounds {start} to {end} does not continue at round {self._next_round}")
        if end > start:
            data = segment_bytes(self._rows.tables(), first_round=start, end_round=end, texts=self._texts)
            written = [*written, write_committed(self._folder, self._folder.trace / segment_name(start, end), data)]
        committed = [*self._committed, *written]
        write_checkpoint(self._folder, checkpoint, self._texts, committed)
        self._committed, self._next_round = _lasting(committed), end
        self._rows.clear()

    def _shard(self, checkpoint: Checkpoint, clients: Arrays) -> list[CommittedFile]:
        if not any(map(len, clients.values())):
            return []
        ranks = self._communicator
        return [write_shard(self._folder, clients, round=checkpoint.next_round, rank=ranks.rank, ranks=ranks.size)]

    def _write_vectors(
        self, checkpoint: Checkpoint, vectors: Mapping[str, Iterable[Vectors]]
    ) -> Iterator[CommittedFile]:
        here = {"round": checkpoint.next_round, "rank": self._communicator.rank, "ranks": self._communicator.size}
        for name, lots in vectors.items():
            for part, lot in enumerate(lots):
                yield write_vectors(self._folder, name, lot, part=part, **here)


def _lasting(files: Iterable[CommittedFile]) -> list[CommittedFile]:
    """Return the files that later checkpoints list too: all but the shards, which belong to one checkpoint."""
    return [file for file in files if round_of_shard(file.path) is None]


def _problem(action: Callable[[], None]) -> str | None:
    try:
        action()
    except RunFolderError as error:
        return str(error)
    return None


def _raise_first(problems: list[str | None]) -> None:
    for problem in problems:
        if problem is not None:
            raise AgreedError(problem)
