"""What the sources that read files share: where a file is, whether it fits, and what its names are numbered.

Files are not trusted. A size that a file states is held against the room that there is and, where the data is
compressed, against what so few bytes can hold, before anything of that size is allocated.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data import arena
from hpcfsl.errors import DataError, one_line, shorten

MAX_CLASSES = 1_000_000
_MOST_COMPRESSION = 1032
"""Bytes that deflate can make of one: its longest match is 258 bytes, its shortest code for one 2 bits."""
_SLACK_BYTES = 1 << 16
_MOST_CHARACTERS = 600
"""Of a message: libraries put whole headers of damaged files into theirs."""
_MOST_CODE = 0x10FFFF
_SURROGATES = 0xD800, 0xDFFF
_POINT_ZERO = re.compile(r"(?<=\d)\.0*$")


def find_file(key: str, value: str, fix: str) -> Path:
    """Return the path of the file that `data.<key>` names, `~` expanded; DataError where there is none."""
    path = expand(key, value)
    if not path.is_file():
        raise DataError(one_line(f"data.{key} = {value!r}: there is no such file; {fix}"))
    return path


def find_folder(key: str, value: str, fix: str) -> Path:
    """Return the path of the folder that `data.<key>` names, `~` expanded; DataError where there is none."""
    path = expand(key, value)
    if not path.is_dir():
        raise DataError(one_line(f"data.{key} = {value!r}: there is no such folder; {fix}"))
    return path


def expand(key: str, value: str, *, section: str = "data") -> Path:
    """Return the path that `<section>.<key>` holds, `~` expanded; DataError where the system has no such path."""
    try:
        if "\0" in value:
            raise OSError(errno.EINVAL, "has a character that no path has")
        path = Path(value).expanduser()
        path.exists()  # asks the system, which refuses names that are too long and folders that may not be entered
    except (OSError, RuntimeError) as error:  # RuntimeError: `~somebody` has no home here
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise DataError(one_line(f"{section}.{key} = {shorten(value)}: {reason}; check the path")) from None
    return path


def check_is_file(path: Path) -> None:
    """Raise a DataError for what is there and no file, such as a pipe, which has no end; call before opening."""
    if path.exists() and not path.is_file():
        raise file_error(path, "is no file; remove it")


def file_error(path: Path, text: str) -> DataError:
    """Return the error about a file: `file PATH: text`, one line; a long text has dots in the middle."""
    if len(text) > _MOST_CHARACTERS:
        half = _MOST_CHARACTERS // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return DataError(one_line(f"file {path}: {text}"))


def check_fits(path: Path, what: str, num_bytes: int, *, in_memory: bool = False) -> None:
    """Raise a DataError where `what` of a file would take more than there is room for; call before allocating.

    Args:
        path: The file.
        what: What of it, for the message.
        num_bytes: Its size.
        in_memory: Whether it lies in memory even where `arena` puts arrays on a disk.
    """
    room, whose = arena.room(in_memory=in_memory)
    if num_bytes > room:
        sizes = f"takes {num_bytes / 1e9:.4g} GB and {whose} {room / 1e9:.4g}"
        other = "take a larger machine" if in_memory else "name a folder on a larger disk as run.data_cache"
        raise file_error(path, f"{what} {sizes}; get the file again, use less of the data, or {other}")


def check_stored(path: Path, what: str, num_bytes: int, stored_bytes: int, *, in_memory: bool = False) -> None:
    """Raise a DataError where no compression could have put `num_bytes` into the `stored_bytes` that there are.

    Or where they do not fit, as for `check_fits`.
    """
    check_fits(path, what, num_bytes, in_memory=in_memory)
    if num_bytes > _MOST_COMPRESSION * stored_bytes + _SLACK_BYTES:
        raise file_error(path, f"{what} claims {num_bytes} bytes, but only {stored_bytes} are stored; get it again")


def check_texts(path: Path, name: str, array: NDArray[Any]) -> None:
    """Raise a DataError where an array [n] that names things holds what is no text, no finite number and no date."""
    kind = array.dtype.kind
    if kind not in "buifMSU":
        raise file_error(path, f"array {name} has type {array.dtype}; give texts or numbers")
    bad = np.zeros(len(array), np.bool_)
    if kind == "U" and array.size and array.dtype.itemsize:
        # Any four bytes may stand in a file where a character belongs; Python breaks on some of them later.
        codes = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=False).view(np.uint32)
        wrong = (codes > _MOST_CODE) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))
        bad |= wrong.reshape(len(array), -1).any(axis=1)
    elif kind in "fM":
        bad |= ~np.isfinite(array)
    if bad.any():
        row = int(np.argmax(bad))
        raise file_error(path, f"array {name}: row {row} is no text, or not finite; mend it or remove the row")


def number_owners(names: Sequence[str] | NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the number of each sample's owner, int64 [n]: owners count from 0 in the sorted order of their names."""
    return np.unique(np.asarray(names), return_inverse=True)[1].reshape(-1).astype(np.int64)


def number_test_owners(
    names: Sequence[str] | NDArray[Any], test_names: Sequence[str] | NDArray[Any]
) -> NDArray[np.int64]:
    """Return the number of each test sample's owner, as `number_owners(names)` has it; new ones come after, sorted."""
    known = {name: place for place, name in enumerate(np.unique(np.asarray(names)).tolist())}
    distinct, places = np.unique(np.asarray(test_names), return_inverse=True)
    numbers = [known.setdefault(name, len(known)) for name in distinct.tolist()]
    return np.array(numbers, np.int64)[places.reshape(-1)]


def number_labels(labels: Sequence[str]) -> dict[str, int]:
    """Return the class of each label: in the order of numbers where all are whole numbers, else of the alphabet."""
    distinct = set(labels)
    try:
        ordered = sorted(distinct, key=lambda label: (int(label), label))
    except ValueError:
        ordered = sorted(distinct)
    return {label: place for place, label in enumerate(ordered)}


def check_written_alike(path: Path, name: str, labels: Collection[str]) -> None:
    """Raise a DataError where a class in a column `name` is written as `1` and as `1.0`: they would be two classes."""
    for label in sorted(labels):
        whole = _POINT_ZERO.sub("", label)
        if whole != label and whole in labels:
            text = f"column {shorten(name)}: {whole!r} and {label!r} are one number; write every class in one way"
            raise file_error(path, text)
