"""Data in mapped files on a disk: later starts need not read and convert it again, and it may exceed the memory.

Layer 1. `run.data_cache` names the folder. A data set is kept there as one file once its source has loaded it, under a
name that is a hash of what it was made from: the source's settings, the seed where it draws a test set, names, sizes
and times of change of the files it reads, the code in this room and the version of numpy. Whatever changes, another
file is made; those that no run uses may be deleted. All ranks of a node map the same file, and the system holds as much
of it in memory as there is room for.

A file is a head (a token, then the length of a description), the description (JSON) and the arrays, each at a multiple
of 64 bytes. Nothing in it is executed, and what it claims is checked before it is believed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import re
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
_OWN = re.compile(r"-[0-9a-f]{32}\.data(\.[0-9a-f]{16}\.unfinished)?$")
_ArrayName = Literal["inputs", "targets", "owners", "test_inputs", "test_targets", "test_owners"]
_ARRAYS = get_args(_ArrayName)


class _Where(BaseModel):
    """An array of a file: its first byte after the description, its shape and numpy's name of its type."""

    at: int = Field(ge=0)
    shape: tuple[NonNegativeInt, ...] = Field(min_length=1, max_length=64)
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
    place = expand("data_cache", folder, section="run")
    name = file_name(source, seed, place) if _reads(source) else None
    if name is not None and (place / name).is_file():
        with contextlib.suppress(FileNotFoundError):  # somebody has just deleted it
            return read(place / name)
    if not keep and not os.access(place, os.W_OK):
        return source.load(seed)
    _prepare(place)
    with arena.in_files(place):
        dataset = source.load(seed)
    # Files that changed while they were read may be half of the one and half of the other.
    if name is None or not keep or file_name(source, seed, place) != name:
        return dataset
    write(place / name, dataset)
    with contextlib.suppress(FileNotFoundError):
        return read(place / name)
    return dataset


def file_name(source: Source, seed: int, place: Path) -> str:
    """Return the name under which the data of a source is kept in `place`, as its files and the program are now."""
    settings = source.model_dump(mode="json", exclude={"standardise"})
    paths = {key: expand(key, value) for key in _reads(source) if (value := getattr(source, key))}
    made_from = {
        "layout": _LAYOUT,
        "program": [version("hpcfsl"), np.__version__, _code_hash(type(source))],
        "settings": settings,
        "seed": seed if source.uses_seed else None,
        "files": {key: [str(path.resolve()), *_stamps(path, place)] for key, path in paths.items()},
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
        FileNotFoundError: There is none.
    """
    try:
        region = arena.open_region(path)
        description, start = _describe(region)
        arrays = {name: _array(region, start, where) for name, where in description.arrays.items()}
        if any(arrays[name].dtype != np.int64 for name in ("owners", "test_owners") if name in arrays):
            raise ValueError("owners are of another type")
        return Dataset(
            inputs=arrays["inputs"],
            targets=arrays["targets"],
            owners=arrays.get("owners"),
            test_inputs=arrays.get("test_inputs"),
            test_targets=arrays.get("test_targets"),
            test_owners=arrays.get("test_owners"),
            **dict(description.others),
        )
    except FileNotFoundError:
        raise
    except DataError as error:
        raise file_error(path, f"{error}; {_FIX}") from None
    except (OSError, ValueError, TypeError, LookupError) as error:  # ValidationError is a ValueError
        raise file_error(path, f"is no data set that was kept ({error}); {_FIX}") from None


def _prepare(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise arena.folder_error(place, f"cannot be written to ({error.strerror})") from None


def _reads(source: Source) -> tuple[str, ...]:
    """Return the settings that name what a source reads; what a class of one's own inherits need not be all of it."""
    own = not type(source).__module__.startswith("hpcfsl.") and "reads" not in vars(type(source))
    return () if own else source.reads


@functools.cache
def _code_hash(kind: type[Source]) -> str:
    """Return a hash of the code that loads: of the room of data, and of the class's own file."""
    files = [*sorted(Path(__file__).parent.rglob("*.py")), Path(inspect.getfile(kind))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:32]


def _stamps(path: Path, place: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and time of change of a file, or of every file in a folder and the folders in it, sorted.

    Files of the cache itself do not count: somebody may keep it among the data.
    """
    found = sorted((*path.glob("*"), *path.glob("*/*"))) if path.is_dir() else [path]  # no source goes deeper
    for each in found:
        with contextlib.suppress(OSError):  # it is missing, which the source will say
            status = each.stat()
            if S_ISREG(status.st_mode) and not (_OWN.search(each.name) and each.parent.resolve() == place.resolve()):
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
    """Return a stream to a file that gets its name when all is written.

    Where several nodes make the same, the first stays: others may have mapped it.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_UNFINISHED}")
    try:
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _give_name(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _give_name(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            unfinished.replace(path)


def _remove_unfinished(folder: Path) -> None:
    """Remove what a start that was killed has left; a younger one may still be at work."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        with contextlib.suppress(OSError):
            if _OWN.search(path.name) and time.time() - path.stat().st_mtime > _UNFINISHED_DAYS * 86400:
                path.unlink()
