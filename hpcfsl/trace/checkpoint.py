"""The state of a run between two rounds, and with it the only record of what is committed.

Layer 3. Crash rule: segments and update files are written whole, synced and renamed; after all ranks are done the
root writes the checkpoint, renamed last, with the sha256 of every committed file. What the newest good checkpoint
does not list never happened and is deleted at a restart, so there is no repair logic. A checkpoint carries its own
sha256 in its HDF5 user block. The last two are kept: a damaged newest one costs a segment, not the run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.trace.files import CommittedFile, verify_files
from hpcfsl.trace.folder import TEMPORARY, RunFolder, folder_errors, sync_directory, write_atomic
from hpcfsl.trace.hdf5 import (
    DamagedFileError,
    build,
    described,
    get_text,
    put_attributes,
    put_text,
    put_vector,
    reading,
)
from hpcfsl.trace.record import RunTexts
from hpcfsl.trace.segment import put_texts
from hpcfsl.trace.shards import delete_shards, list_shards, round_of_shard

KEEP = 2
_USER_BLOCK = 512
_NAME = re.compile(r"round_(\d{6,})\.h5")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        next_round: The round that comes next.
        weights: Global model, float32 [params], in model order.
        arrays: Further state by name, any shapes and numeric types.
        config_text: The resolved configuration, TOML.
        segment_start: First round of the segment that this checkpoint ends: the `next_round` of the one before, or 0.
    """

    next_round: int
    weights: NDArray[np.float32]
    arrays: Mapping[str, NDArray[Any]]
    config_text: str
    segment_start: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A checkpoint without its arrays.

    Attributes:
        path: The checkpoint's file.
        next_round: The round that comes next.
        segment_start: First round of the segment that the checkpoint ends.
        files: All committed files.
        texts: What the run says about itself.
    """

    path: Path
    next_round: int
    segment_start: int
    files: tuple[CommittedFile, ...]
    texts: RunTexts


@dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """A checkpoint read back.

    Attributes:
        checkpoint: The state.
        header: The rest of the file.
        warnings: One line for each newer checkpoint that could not be used; record them as events.
    """

    checkpoint: Checkpoint
    header: Header
    warnings: tuple[str, ...] = ()


def list_checkpoints(folder: RunFolder) -> list[Path]:
    """Return the checkpoint files, newest first."""
    with folder_errors(folder.checkpoints):
        names = [path for path in folder.checkpoints.glob("round_*.h5") if _NAME.fullmatch(path.name)]
    return sorted(names, key=_round_of, reverse=True)


def write_checkpoint(folder: RunFolder, checkpoint: Checkpoint, texts: RunTexts, files: list[CommittedFile]) -> Path:
    """Write a checkpoint, the commit of `files`; delete all but the last two checkpoints."""
    path = folder.checkpoints / f"round_{checkpoint.next_round:06d}.h5"
    data = build(lambda file: _fill(file, checkpoint, texts, files), user_block=_USER_BLOCK)
    data[:_USER_BLOCK] = _user_block(hashlib.sha256(data[_USER_BLOCK:]).hexdigest(), len(data))
    write_atomic(path, data)
    with folder_errors(folder.checkpoints):
        for old in list_checkpoints(folder)[KEEP:]:
            old.unlink()
    delete_shards(folder, map(_round_of, list_checkpoints(folder)))
    return path


def read_header(path: Path) -> Header:
    """Return a checkpoint without its arrays, after a check of all its bytes.

    Raises:
        DamagedFileError: Its bytes are not those written.
        RunFolderError: It is of an unknown major version.
    """
    _verify_self(path)
    with reading(path) as file:
        names = json.loads(get_text(file, "component_names"))
        texts = RunTexts(
            config_text=get_text(file, "config"),
            provenance=get_text(file, "provenance"),
            result_settings=get_text(file, "result_settings"),
            component_names=tuple(names),
        )
        files = tuple(CommittedFile(**entry) for entry in json.loads(get_text(file, "manifest")))
        next_round, start = int(file.attrs["next_round"]), int(file.attrs["segment_start"])
    return Header(path=path, next_round=next_round, segment_start=start, files=files, texts=texts)


def read_weights(path: Path) -> NDArray[np.float32]:
    """Return the weights of a checkpoint, float32 [params]."""
    with reading(path) as file:
        weights: NDArray[np.float32] = file["weights"][()]
    return weights


def load_checkpoint(folder: RunFolder, path: Path) -> LoadedCheckpoint:
    """Return a checkpoint after a check of it and of every file that it lists; raises as `read_header`."""
    header = read_header(path)
    verify_files(folder, header.files)
    with reading(path) as file:
        entries = [(bytes(entry.attrs["name"]).decode(), entry) for entry in file["arrays"].values()]
        # With its type: a single text read by itself has only the width of its letters.
        arrays = {name: np.asarray(entry[()], dtype=entry.dtype) for name, entry in entries}
    state = Checkpoint(
        next_round=header.next_round,
        weights=read_weights(path),
        arrays=arrays,
        config_text=header.texts.config_text,
        segment_start=header.segment_start,
    )
    return LoadedCheckpoint(checkpoint=state, header=header)


def latest_checkpoint(folder: RunFolder) -> LoadedCheckpoint | None:
    """Return the newest checkpoint whose files are all as committed; None where there is no checkpoint at all.

    Raises:
        RunFolderError: There are checkpoints and none can be used, or one is of an unknown major version.
    """
    warnings: list[str] = []
    for path in list_checkpoints(folder):
        try:
            loaded = load_checkpoint(folder, path)
        except DamagedFileError as error:
            warnings.append(one_line(f"{path.name} not used: {error}"))
            continue
        return LoadedCheckpoint(checkpoint=loaded.checkpoint, header=loaded.header, warnings=tuple(warnings))
    if warnings:
        fix = "restore the named file from a copy, or delete the folder to start again"
        raise RunFolderError(one_line(f"{folder.path}: no checkpoint can be used; {fix}; {warnings[0]}"))
    return None


def discard_uncommitted(folder: RunFolder, loaded: LoadedCheckpoint | None) -> list[str]:
    """Delete what the checkpoint does not list, on the root only; return the relative paths deleted.

    Args:
        folder: The run folder.
        loaded: What `latest_checkpoint` returned; None deletes everything that was recorded.
    """
    kept: set[Path] = set()
    if loaded is not None:
        kept = {folder.path / file.path for file in loaded.header.files}
        older = {path for path in list_checkpoints(folder) if _round_of(path) <= loaded.checkpoint.next_round}
        rounds = set(map(_round_of, older)) - {loaded.checkpoint.next_round}
        kept |= older | {path for path in list_shards(folder) if round_of_shard(path.name) in rounds}
    deleted: list[str] = []
    for part in (folder.path, folder.trace, folder.updates, folder.checkpoints):
        pattern = f"*{TEMPORARY}" if part == folder.path else "*"
        with folder_errors(part):
            found = sorted(path for path in part.glob(pattern) if path not in kept and not path.is_dir())
            for path in found:
                path.unlink()
            if found:
                sync_directory(part)
        deleted += [path.relative_to(folder.path).as_posix() for path in found]
    return deleted


def _fill(file: Any, checkpoint: Checkpoint, texts: RunTexts, files: list[CommittedFile]) -> None:
    put_attributes(file, {"next_round": checkpoint.next_round, "segment_start": checkpoint.segment_start})
    put_texts(file, replace(texts, config_text=checkpoint.config_text))
    put_text(file, "component_names", json.dumps(texts.component_names), "Names of the score components, JSON.")
    put_text(file, "manifest", json.dumps([asdict(entry) for entry in files]), "All committed files, JSON.")
    weights = put_vector(file, "weights", np.asarray(checkpoint.weights, dtype="<f4"))
    put_attributes(weights, described("1", "weights", "Global model, flat, in model order.", True))
    group = file.create_group("arrays")
    # Numbered, because a name may be any text and HDF5 would read a slash in it as a group.
    for number, (name, array) in enumerate(sorted(checkpoint.arrays.items())):
        entry = put_vector(group, f"array_{number:06d}", np.asarray(array))
        put_attributes(entry, {**described("1", name, "Further state.", True), "name": name})


def _user_block(sha256: str, size: int) -> bytes:
    return f"hpcfsl-checkpoint sha256={sha256} bytes={size}\n".encode().ljust(_USER_BLOCK, b"\0")


def _verify_self(path: Path) -> None:
    with folder_errors(path), path.open("rb") as stream:
        block = stream.read(_USER_BLOCK)
        digest = hashlib.sha256()
        while part := stream.read(1 << 20):
            digest.update(part)
        size = stream.tell()
    if block != _user_block(digest.hexdigest(), size):
        raise DamagedFileError(path, "its sha256 is not the one in its user block")


def _round_of(path: Path) -> int:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1])
