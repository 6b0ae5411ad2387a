"""The parts of a checkpoint that ranks write themselves: what is remembered of the clients whose home they are.

Layer 3. Such a file belongs to one checkpoint, whose manifest lists it like any other file, and goes when that
checkpoint goes. A rank that remembers nobody writes none. Numbers of clients are one file a rank; vectors that stay
with clients are files of their own, as many as it takes to hold few of them in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.files import CommittedFile, write_committed
from hpcfsl.trace.folder import RunFolder, folder_errors
from hpcfsl.trace.hdf5 import build, described, put_attributes, put_vector, reading

_NAME = re.compile(r"clients_(\d{6,})_rank_(\d{4,})_of_(\d{4,})(?:_([a-z]+)_(\d{4,}))?\.h5")
Arrays = Mapping[str, NDArray[Any]]
Vectors = tuple[NDArray[np.int64], NDArray[np.float32]]  # ids [clients], vectors [clients, width]


def write_shard(folder: RunFolder, arrays: Arrays, *, round: int, rank: int, ranks: int) -> CommittedFile:
    """Write a rank's part of the checkpoint of `round`; return its entry for the manifest.

    Args:
        folder: The run folder.
        arrays: Numbers by name, [clients] each.
        round: `next_round` of the checkpoint.
        rank: This rank.
        ranks: The number of ranks, which says whose home this rank is.
    """

    def fill(file: Any) -> None:
        for name, values in arrays.items():
            entry = put_vector(file, name, values)
            put_attributes(entry, described("1", name.replace("_", " "), "Remembered of each client.", True))

    return write_committed(folder, folder.checkpoints / f"{_stem(round, rank, ranks)}.h5", build(fill))


def write_vectors(
    folder: RunFolder, name: str, vectors: Vectors, *, part: int, round: int, rank: int, ranks: int
) -> CommittedFile:
    """Write some clients' vectors of a kind; return the file's entry for the manifest.

    Args:
        folder: The run folder.
        name: Of the kind, small letters.
        vectors: Client ids, int64 [clients], and their vectors, float32 [clients, width].
        part: Number of the file among those of this kind, rank and round.
        round: As for `write_shard`.
        rank: This rank.
        ranks: The number of ranks.
    """

    def fill(file: Any) -> None:
        clients, rows = vectors
        arrays: Arrays = {"clients": clients, "vectors": rows}
        for column, values in arrays.items():
            put_attributes(put_vector(file, column, values), described("1", column, f"Of each client: {name}.", True))

    path = folder.checkpoints / f"{_stem(round, rank, ranks)}_{name}_{part:04d}.h5"
    return write_committed(folder, path, build(fill))


def round_of_shard(path: str) -> int | None:
    """Return which checkpoint a file is a part of, from its path; None for a file of another kind."""
    found = _NAME.fullmatch(path.rsplit("/", 1)[-1])
    return int(found[1]) if found else None


def ranks_of_shards(files: Iterable[CommittedFile]) -> int | None:
    """Return how many ranks wrote the shards among some files; None where there are no shards."""
    for file in files:
        if found := _NAME.fullmatch(file.path.rsplit("/", 1)[-1]):
            return int(found[3])
    return None


def read_shards(folder: RunFolder, files: Iterable[CommittedFile], ranks: Iterable[int]) -> dict[str, NDArray[Any]]:
    """Return what some ranks wrote, put together in the order of ranks; empty where they wrote nothing.

    Args:
        folder: The run folder.
        files: The files of a checkpoint's manifest, already verified.
        ranks: The ranks.

    Raises:
        DamagedFileError: A file cannot be read.
    """
    wanted, parts = set(ranks), []
    for file in sorted(files, key=lambda file: file.path):
        found = _NAME.fullmatch(file.path.rsplit("/", 1)[-1])
        if found and int(found[2]) in wanted and not found[4]:
            with reading(folder.path / file.path) as opened:
                parts.append({name: np.asarray(opened[name][()]) for name in opened})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def read_vectors(
    folder: RunFolder, files: Iterable[CommittedFile], name: str, ranks: Iterable[int]
) -> Iterator[Vectors]:
    """Yield what some ranks wrote with `write_vectors`, a file at a time; arguments as for `read_shards`."""
    wanted = set(ranks)
    for file in sorted(files, key=lambda file: file.path):
        found = _NAME.fullmatch(file.path.rsplit("/", 1)[-1])
        if found and found[4] == name and int(found[2]) in wanted:
            with reading(folder.path / file.path) as opened:
                yield np.asarray(opened["clients"][()]), np.asarray(opened["vectors"][()])


def delete_shards(folder: RunFolder, kept_rounds: Iterable[int]) -> None:
    """Delete the shards of all checkpoints but some (root)."""
    kept = set(kept_rounds)
    with folder_errors(folder.checkpoints):
        for path in list_shards(folder):
            if round_of_shard(path.name) not in kept:
                path.unlink()


def list_shards(folder: RunFolder) -> list[Path]:
    """Return the shard files of all checkpoints."""
    with folder_errors(folder.checkpoints):
        return sorted(path for path in folder.checkpoints.glob("clients_*.h5") if _NAME.fullmatch(path.name))


def _stem(round: int, rank: int, ranks: int) -> str:
    return f"clients_{round:06d}_rank_{rank:04d}_of_{ranks:04d}"
