"""Data in mapped files on a disk: later starts need not read and convert it again, and it may exceed the memory.

Layer 1. `run.data_cache` names the folder. A data set is kept there as one file once its source has loaded it, under a
name that is a hash of what it was made from: the source's settings, the seed where it draws a test set, names, sizes
and times of change of the files it reads, and the versions of this package and of numpy. Whatever changes, another file
is made; old ones may be deleted at any time. All ranks of a node map the same file, and the system holds as much of it
in memory as there is room for.

A file is a head (a token, then the length of a description), the description (JSON) and the arrays, each at a multiple
of 64 bytes. Nothing in it is executed, and what it claims is checked before it is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.files import MAX_CLASSES, expand, file_error
from hpcfsl.errors import DataError

_LAYOUT = 1
_MAGIC = b"hpcfsl data\0\0\0\0\0"
_ALIGNMENT = 64
_PIECE_BYTES = 1 << 24
_MOST_DESCRIPTION = 1 << 24
_FIX = "delete it, and it is made again"
_UNFINISHED, _UNFINISHED_DAYS = ".unfinished", 1
_ArrayName = Literal["inputs", "targets", "owners", "test_inputs", "test_targets", "test_owners"]
_ARRAYS = get_args(_ArrayName)


class _Where(BaseModel):
    """An array of a file: its first byte after the description, its shape and numpy's name of its type."""

    at: int = Field(ge=0)
    shape: tuple[NonNegativeInt, ...] = Field(min_length=1, max_length=16)
    type: str = Field(pattern=r"^[<>|][buif](1|2|4|8|16)$")


class _Others(BaseModel):
    """What a data set has besides arrays."""

    name: str
    num_classes: int = Field(ge=0, le=MAX_CLASSES)
    vocabulary: int = Field(ge=0, le=MAX_CLASSES)
    last_values: tuple[int, ...]
    stored: Literal["", "classes", "numbers"]


class _Description(BaseModel):
    arrays: dict[_ArrayName, _Where]
    others: _Others


def load(source: Source, seed: int, folder: str, *, keep: bool = True) -> Dataset:
    """Return `source.load(seed)`, its large arrays in mapped files of a folder.

    Args:
        source: The settings of the data.
        seed: The run's seed.
        folder: Where; "" for memory.
        keep: Whether to leave a file for later starts. One that is there is used in either case; generated data, and
            that of packages and of sources of one's own that do not say what they read, is never kept.

    Raises:
        DataError: As for `source.load`; or the folder cannot be written to, or what it keeps is damaged.
    """
    if not folder:
        return source.load(seed)
    place = _prepare(folder)
    name = file_name(source, seed, place) if source.reads else None
    if name is not None and (place / name).is_file():
        return read(place / name)
    with arena.in_files(place):
        dataset = source.load(seed)
    if name is None or not keep:
        return dataset
    write(place / name, dataset)
    del dataset  # its files have no name, and go with it
    return read(place / name)


def file_name(source: Source, seed: int, place: Path) -> str:
    """Return the name under which the data of a source is kept in `place`, as its files are now."""
    settings = source.model_dump(mode="json", exclude={"standardise"})
    made_from = {
        "layout": _LAYOUT,
        "versions": [version("hpcfsl"), np.__version__],
        "settings": settings,
        "seed": seed if source.uses_seed else None,
        "files": {key: list(_stamps(key, getattr(source, key), place)) for key in source.reads if getattr(source, key)},
    }
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return f"{settings['source']}-{hashlib.sha256(text.encode()).hexdigest()[:32]}.data"


def write(path: Path, dataset: Dataset) -> None:
    """Write a data set; whoever reads sees the whole file or none.

    Raises:
        DataError: The folder cannot be written to, or the disk is full.
    """
    _remove_unfinished(path.parent)
    try:
        with _whole(path) as stream:
            _write(stream, dataset)
    except OSError as error:
        raise arena.folder_error(path.parent, f"the data cannot be kept ({error.strerror})") from None


def read(path: Path) -> Dataset:
    """Return the data set that a file keeps; its arrays are mapped, and read-only.

    Raises:
        DataError: The file is no such file, or damaged.
    """
    try:
        region = arena.open_region(path)
        description, start = _describe(region)
        arrays = {name: _array(region, start, where) for name, where in description.arrays.items()}
        return Dataset(
            inputs=arrays["inputs"],
            targets=arrays["targets"],
            owners=arrays.get("owners"),
            test_inputs=arrays.get("test_inputs"),
            test_targets=arrays.get("test_targets"),
            test_owners=arrays.get("test_owners"),
            **dict(description.others),
        )
    except DataError as error:
        raise file_error(path, f"{error}; {_FIX}") from None
    except (OSError, ValueError, TypeError, LookupError) as error:  # ValidationError is a ValueError
        raise file_error(path, f"is no data set that was kept ({error}); {_FIX}") from None


def _prepare(folder: str) -> Path:
    place = expand("data_cache", folder, section="run")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place
    except (OSError, ValueError) as error:  # ValueError: a character that no path has
        raise arena.folder_error(place, f"cannot be written to ({getattr(error, 'strerror', error)})") from None


def _stamps(key: str, value: str, place: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of a file, or of every file in a folder and the folders in it, sorted.

    What lies in `place`, the cache, does not count: somebody may keep it beside the data.
    """
    path = expand(key, value)
    found = sorted((*path.glob("*"), *path.glob("*/*"))) if path.is_dir() else [path]  # no source goes deeper
    for each in found:
        with contextlib.suppress(OSError):  # it is missing, which the source will say
            status = each.stat()
            if S_ISREG(status.st_mode) and each.parent.resolve() != place.resolve():
                yield str(each.relative_to(path)), status.st_size, status.st_mtime_ns


def _write(stream: BinaryIO, dataset: Dataset) -> None:
    arrays = {name: array for name in _ARRAYS if (array := getattr(dataset, name)) is not None}
    places, end = {}, 0
    for name, array in arrays.items():
        places[name] = _Where(at=end, shape=array.shape, type=array.dtype.str)
        end += array.nbytes + -array.nbytes % _ALIGNMENT
    others = _Others(**{name: getattr(dataset, name) for name in _Others.model_fields})
    description = _Description(arrays=places, others=others).model_dump_json().encode()
    # Blanks up to where the arrays begin.
    description += b" " * (-(arena.HEAD_BYTES + len(description)) % _ALIGNMENT)
    head = secrets.token_bytes(arena.TOKEN_BYTES) + _MAGIC + len(description).to_bytes(8, "little")
    stream.write(head.ljust(arena.HEAD_BYTES, b"\0") + description)
    for array in arrays.values():
        _write_array(stream, array)
        stream.write(bytes(-array.nbytes % _ALIGNMENT))


def _write_array(stream: BinaryIO, array: NDArray[Any]) -> None:
    """Write an array of any strides, some rows at a time."""
    rows = max(1, _PIECE_BYTES // max(1, array[:1].nbytes))
    for first in range(0, len(array), rows):
        stream.write(np.ascontiguousarray(array[first : first + rows]).data)


def _describe(region: arena.Region) -> tuple[_Description, int]:
    """Return what the head of a file says of it, and where its arrays begin."""
    after = arena.TOKEN_BYTES + len(_MAGIC)
    if region[arena.TOKEN_BYTES : after] != _MAGIC:
        raise ValueError("it does not begin as one")
    length = int.from_bytes(region[after : after + 8], "little")
    start = arena.HEAD_BYTES + length
    if length > _MOST_DESCRIPTION or start > len(region):
        raise ValueError("it is cut off")
    return _Description.model_validate_json(region[arena.HEAD_BYTES : start]), start


def _array(region: arena.Region, start: int, where: _Where) -> NDArray[Any]:
    kind, count = np.dtype(where.type), prod(where.shape)
    if start + where.at + count * kind.itemsize > len(region):
        raise ValueError("it is cut off")
    return np.frombuffer(region, kind, count=count, offset=start + where.at).reshape(where.shape)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Return a stream to a file that gets its name when all is written; several ranks may make the same."""
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def _remove_unfinished(folder: Path) -> None:
    """Remove what a start that was killed has left; a younger one may still be at work."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNFINISHED_DAYS * 86400:
                path.unlink()
