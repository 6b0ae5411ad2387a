"""Federated data sets in the JSON files of LEAF.

Caldas et al., "LEAF: a benchmark for federated settings" (2018). Its scripts write a folder with `train/` and `test/`,
each with some `*.json` files of the form `{"users": [...], "num_samples": [...], "user_data": {user: {"x": [...], "y":
[...]}}}`. Samples are numbers (FEMNIST, Synthetic: `x` is a list of vectors or images) or text (Shakespeare: strings;
Sent140: lists of strings, one of which is the text), classes are whole numbers or strings. Users are natural clients.
Reddit's nested texts and CelebA's names of image files are not read. Choose it to compare results with those of others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.characters import ALPHABET, bring_to_length, encode
from hpcfsl.data.sources.files import (
    MAX_CLASSES,
    check_fits,
    check_is_file,
    file_error,
    find_folder,
    number_labels,
    number_owners,
    number_test_owners,
)
from hpcfsl.errors import ConfigError, DataError, one_line, shorten

_FIX = "set it to a folder of LEAF, with train/*.json and perhaps test/*.json"
_BYTES_OF_PARSED_JSON = 10
"""Memory that Python's objects take for one byte of JSON, at most about this."""


@sources.register
class LeafJson(Source):
    """Numbers or text from a folder of LEAF's JSON files, with their users."""

    reads: ClassVar[tuple[str, ...]] = ("folder",)
    uses_seed: ClassVar[bool] = False

    source: Literal["leaf-json"] = "leaf-json"
    """A federated data set of LEAF: femnist, shakespeare, sent140, synthetic."""

    folder: str = Field(min_length=1)
    """Folder with train/*.json and perhaps test/*.json; without test, the partition holds out samples."""

    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field((), max_length=4)
    """Numbers: shape to give each sample, [1, 28, 28] for FEMNIST; empty to leave it as it is."""

    positions: int = Field(80, ge=1, le=1_000_000)
    """Text: characters in a sample; the end of a longer one is cut off, a shorter one gets blanks in front."""

    text_field: int = Field(4, ge=0, le=1000)
    """Text: which string to take where a sample is a list of strings; 4 is the text in Sent140."""

    def load(self, seed: int) -> Dataset:
        """Return numbers, float32 [n, ...], or characters, uint8 [n, positions]; `seed` changes nothing.

        Raises:
            DataError: A file is missing or broken; the text names the user and the sample.
            ConfigError: `data.shape` does not fit the samples.
        """
        folder = find_folder("folder", self.folder, _FIX)
        train = self._read_part(folder / "train")
        if not train.samples:
            raise DataError(one_line(f"data.folder = {self.folder!r}: has no samples in train/*.json; {_FIX}"))
        test = self._read_part(folder / "test")
        classes = _number_classes(folder, [*train.classes, *test.classes])
        return Dataset(
            name=self.folder,
            inputs=self._join(folder / "train", train),
            targets=np.array([classes[label] for label in train.classes]),
            owners=number_owners(train.users),
            test_owners=number_test_owners(train.users, test.users) if test.samples else None,
            num_classes=max(classes.values()) + 1,
            test_inputs=self._join(folder / "test", test) if test.samples else None,
            test_targets=np.array([classes[label] for label in test.classes]) if test.samples else None,
            vocabulary=len(ALPHABET) if train.is_text else 0,
        )

    def _read_part(self, folder: Path) -> _Part:
        part = _Part()
        for path in sorted(folder.glob("*.json")):
            for user, entry in _users(path):
                samples, classes = _take(path, user, entry)
                if classes:
                    self._check_text_fits(path, samples, len(part.classes) + len(classes))
                    part.samples.append(self._convert(path, user, samples))
                    part.classes += classes
                    part.users += [user] * len(classes)
                    part.names.append(user)
        return part

    def _check_text_fits(self, path: Path, samples: list[Any], count: int) -> None:
        """Raise a DataError where `count` samples of text are too many for this machine, joined out of parts."""
        if _is_text(samples):
            check_fits(
                path,
                f"{count} samples of data.positions = {self.positions}",
                2 * count * self.positions,
                in_memory=True,
            )

    def _convert(self, path: Path, user: str, samples: list[Any]) -> NDArray[Any]:
        """Return the samples of one user, [n, ...]."""
        if _is_text(samples):
            texts = [self._text(path, user, place, sample) for place, sample in enumerate(samples)]
            return np.stack([bring_to_length(encode(text), self.positions) for text in texts])
        return self._numbers(path, user, samples)

    def _text(self, path: Path, user: str, place: int, sample: Any) -> str:
        text = sample[self.text_field] if isinstance(sample, list) and len(sample) > self.text_field else sample
        if not isinstance(text, str):
            text = f"user {shorten(user)}: sample {place} has no text"
            raise file_error(path, f"{text}; remove it, or set data.text_field")
        return text

    def _numbers(self, path: Path, user: str, samples: list[Any]) -> NDArray[np.float32]:
        try:
            found = np.asarray(samples)
        except ValueError:  # of lists of several lengths
            found = np.empty(0, object)
        if found.dtype.kind not in "buif" or found.ndim < 2:
            text = f"user {shorten(user)}: x is not a list of vectors of numbers, all of one length"
            raise file_error(path, f"{text}; mend it")
        if self.shape and prod(self.shape) != prod(found.shape[1:]):
            fix = f"user {shorten(user)} of {path} has samples of shape {list(found.shape[1:])}; set it to fit"
            raise ConfigError("data.shape", self.shape, fix)
        with np.errstate(over="ignore"):  # the data set names the row that is not finite
            return found.astype(np.float32).reshape(len(found), *(self.shape or found.shape[1:]))

    def _join(self, folder: Path, part: _Part) -> NDArray[Any]:
        first = part.samples[0]
        for user, samples in zip(part.names, part.samples, strict=True):
            if samples.shape[1:] != first.shape[1:] or samples.dtype != first.dtype:
                raise DataError(
                    f"folder {folder}: user {shorten(user)} has samples {samples.dtype} {samples.shape[1:]}, and "
                    f"{shorten(part.names[0])} {first.dtype} {first.shape[1:]}; remove one of them"
                )
        return arena.joined(part.samples)


@dataclass(kw_only=True)
class _Part:
    """What the files of train/ or test/ hold: a name and an array of samples a user, class and user of each sample."""

    samples: list[NDArray[Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    classes: list[int | str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    @property
    def is_text(self) -> bool:
        return self.samples[0].dtype == np.uint8


def _is_text(samples: list[Any]) -> bool:
    first = samples[0][0] if isinstance(samples[0], list) and samples[0] else samples[0]
    return isinstance(first, str)


def _users(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each user of a file and what the file has for it."""
    content = _parse(path)
    users, data = (content.get("users"), content.get("user_data")) if isinstance(content, dict) else (None, None)
    if not isinstance(users, list) or not isinstance(data, dict):
        raise file_error(path, "has no users and user_data, so it is no file of LEAF; remove it")
    if len(set(map(str, users))) < len(users):
        raise file_error(path, "names a user twice; get the file again")
    counts = content.get("num_samples", [])
    for place, user in enumerate(users):
        if not isinstance(user, str) or user not in data:
            raise file_error(path, f"user {place} ({shorten(user)}) is not in user_data; get the file again")
        entry = data[user]
        if isinstance(counts, list) and place < len(counts) and _length(entry) not in (None, counts[place]):
            text = f"user {shorten(user)} has {_length(entry)} samples, and num_samples says {shorten(counts[place])}"
            raise file_error(path, f"{text}; get the file again")
        yield user, entry


def _length(entry: Any) -> int | None:
    return len(entry["y"]) if isinstance(entry, dict) and isinstance(entry.get("y"), list) else None


def _parse(path: Path) -> Any:
    check_is_file(path)
    try:
        check_fits(path, "its content", _BYTES_OF_PARSED_JSON * path.stat().st_size, in_memory=True)
        return json.loads(path.read_bytes())
    except DataError:
        raise
    except OSError as error:
        raise file_error(path, f"{error.strerror}; get the file again") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise file_error(path, f"is no JSON ({error}); get the file again") from None


def _take(path: Path, user: str, entry: Any) -> tuple[list[Any], list[int | str]]:
    """Return the samples and classes of one user."""
    samples, classes = (entry.get("x"), entry.get("y")) if isinstance(entry, dict) else (None, None)
    if not isinstance(samples, list) or not isinstance(classes, list) or len(samples) != len(classes):
        raise file_error(path, f"user {shorten(user)} has no lists x and y of one length; get the file again")
    for place, label in enumerate(classes):
        if not isinstance(label, str | int):
            text = f"user {shorten(user)}: class {shorten(label)} of sample {place} is neither a whole number nor text"
            raise file_error(path, f"{text}; mend it")
    return samples, classes


def _number_classes(folder: Path, labels: list[int | str]) -> dict[int | str, int]:
    """Return the class of each label: whole numbers stay what they are, strings are numbered in sorted order."""
    distinct = set(labels)
    numbers = [label for label in distinct if not isinstance(label, str)]
    if not numbers:
        return {label: place for label, place in number_labels([str(label) for label in distinct]).items()}
    if len(numbers) < len(distinct):
        raise DataError(f"folder {folder}: some classes are numbers and some are text; make them all one or the other")
    if min(numbers) < 0 or max(numbers) >= MAX_CLASSES:
        raise DataError(f"folder {folder}: has classes {min(numbers)} .. {max(numbers)}; number them 0, 1, 2, ...")
    return {label: int(label) for label in numbers}
