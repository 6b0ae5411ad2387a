"""Tables with one row a sample: what `csv` and `parquet` have in common.

One column is the class, whose values may be any texts or numbers; they are numbered in sorted order. Or one or several
columns are numbers to predict (`data.target = "number"`). One may say whose
the sample is, and its values are the natural clients. The others, or those that `data.features` names, are the inputs:
a column of numbers is one input, any other column a category. Categories are those of training and test file together.

A table is read twice in pieces: once to see what its columns are, once into an array of the final size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.files import MAX_CLASSES, check_fits, check_written_alike, file_error, find_file, number_labels
from hpcfsl.errors import ConfigError, shorten
from hpcfsl.settings import suggest

PIECE_ROWS = 4096
_MAX_CATEGORIES = 1000
_FILL_IN = "fill it in or remove the row"

Piece = Mapping[str, Sequence[str] | NDArray[np.float64]]
"""Some rows: of each column texts, or numbers where the file stores numbers; what is missing is "" or NaN."""


class Table(Source):
    """Samples from a table; a subclass reads it in pieces."""

    reads: ClassVar[tuple[str, ...]] = ("file", "test_file")
    uses_seed: ClassVar[bool] = False

    file: str = Field(min_length=1)
    """Path of the file."""

    test_file: str = ""
    """Path of a test set with the same columns; without one, the partition holds out samples."""

    label: str = Field(min_length=1)
    """Name of the column with the class: any texts or numbers, numbered in sorted order; or with the number to
    predict."""

    target: Literal["class", "number"] = "class"
    """What `label` holds: a class, or a number to predict."""

    more_labels: tuple[str, ...] = Field((), max_length=10_000)
    """Names of further columns with numbers to predict, all by one model."""

    client: str = ""
    """Name of the column that says whose a sample is; empty where there is none."""

    features: tuple[str, ...] = Field((), max_length=100_000)
    """Names of the columns that are inputs, in that order; empty for all that are neither label nor client."""

    categories: Literal["one-hot", "number"] = "one-hot"
    """Inputs of a column that is not all numbers: a 0 or 1 for each of its values in sorted order, at most 1,000; or
    the number of its value in that order."""

    @abstractmethod
    def read_names(self, path: Path) -> list[str]:
        """Return the names of the columns."""

    @abstractmethod
    def read_pieces(self, path: Path, *, features: list[str], texts: list[str]) -> Iterator[Piece]:
        """Yield rows in order, at most `PIECE_ROWS` at once, with the columns of both lists; `texts` always as text."""

    def load(self, seed: int) -> Dataset:
        """Return the table as float32 [n, inputs]; `seed` changes nothing.

        Raises:
            DataError: A file is missing or broken; the text names row and column.
            ConfigError: A column that is asked for does not exist.
        """
        path = find_file("file", self.file, "set it to the path of a table")
        test_path = find_file("test_file", self.test_file, "set it to the path of a table") if self.test_file else None
        features = self._choose_features(path)
        surveys = {each: self._survey(each, features) for each in (path, test_path) if each is not None}
        columns = {
            name: _merge(name, [(each, found.columns[name]) for each, found in surveys.items()]) for name in features
        }
        labels = set().union(*(found.labels for found in surveys.values()))
        check_written_alike(path, self.label, labels)
        classes = number_labels(list(labels))
        clients = _number_clients(*(found.clients for found in surveys.values()))
        inputs, targets, owners = self._fill(path, surveys[path], columns, classes, clients)
        test = self._fill(test_path, surveys[test_path], columns, classes, clients) if test_path else None
        return Dataset(
            name=self.file,
            inputs=inputs,
            targets=targets,
            owners=owners if self.client else None,
            num_classes=0 if self._has_numbers else len(classes),
            test_inputs=test[0] if test else None,
            test_targets=test[1] if test else None,
            test_owners=test[2] if test and self.client else None,
        )

    def _choose_features(self, path: Path) -> list[str]:
        names = self.read_names(path)
        if self.more_labels and not self._has_numbers:
            raise ConfigError("data.more_labels", list(self.more_labels), "is for numbers; set data.target = 'number'")
        wanted = [("label", self.label), *(("more_labels", name) for name in self.more_labels)]
        wanted += [("client", self.client)] if self.client else []
        for key, name in (*wanted, *(("features", name) for name in self.features)):
            if name not in names:
                raise ConfigError(f"data.{key}", name, suggest(name, names))
        if (
            leak := next((name for name in self.features if name in {self.label, *self.more_labels}), None)
        ) is not None:
            raise ConfigError("data.features", leak, "is to be told from the others; leave it out")
        if len(set(names)) < len(names):
            raise file_error(path, f"has two columns {shorten(max(names, key=names.count))}; rename one of them")
        features = list(self.features) or [name for name in names if name not in {taken for _, taken in wanted}]
        if not features:
            raise file_error(path, "has no column besides label and client; add the inputs")
        return features

    def _pieces(self, path: Path, features: list[str]) -> Iterator[tuple[int, Piece]]:
        """Yield the pieces of a file, checked for what is missing, each with the number of the row it starts at."""
        numbers = [self.label, *self.more_labels] if self._has_numbers else []
        texts = [*([] if numbers else [self.label]), *([self.client] if self.client else [])]
        row = 1
        for piece in self.read_pieces(path, features=[*features, *numbers], texts=texts):
            for name in (*features, *numbers, *texts):
                check_complete(path, name, row, piece[name])
            yield row, piece
            row += len(piece[self.label])

    @property
    def _has_numbers(self) -> bool:
        return self.target == "number"

    def _targets(self, path: Path, row: int, piece: Piece, classes: Mapping[str, int]) -> NDArray[Any]:
        """Return the classes of a piece, int64 [rows], or its numbers to predict, float64 [rows, outputs]."""
        if not self._has_numbers:
            return np.array([classes[str(label)] for label in piece[self.label]], np.int64)
        return np.stack([_numbers(path, row, name, piece[name]) for name in (self.label, *self.more_labels)], axis=1)

    def _survey(self, path: Path, features: list[str]) -> _Survey:
        found = _Survey(columns={name: _Column() for name in features})
        for row, piece in self._pieces(path, features):
            found.rows += len(piece[self.label])
            if not self._has_numbers:
                found.labels.update(map(str, piece[self.label]))
            if self.client:
                found.clients.update(map(str, piece[self.client]))
            for name, column in found.columns.items():
                column.look_at(row, piece[name])
        if not found.rows:
            raise file_error(path, "has no rows; get the file again")
        if len(found.labels) > MAX_CLASSES:
            raise file_error(path, f"column {self.label}: has more than {MAX_CLASSES} classes; choose another label")
        return found

    def _fill(
        self,
        path: Path,
        survey: _Survey,
        columns: Mapping[str, list[str]],
        classes: Mapping[str, int],
        clients: Mapping[str, int],
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.int64]]:
        """Return inputs [n, width], targets [n, ...] and clients [n] of a file; `columns` has categories of inputs."""
        widths = {name: len(known) if known and self.categories == "one-hot" else 1 for name, known in columns.items()}
        check_fits(path, "the table", survey.rows * (4 * sum(widths.values()) + 16))
        inputs = arena.empty((survey.rows, sum(widths.values())), np.float32)
        owners = np.zeros(survey.rows, np.int64)
        shape = (survey.rows, 1 + len(self.more_labels)) if self._has_numbers else (survey.rows,)
        targets: NDArray[Any] = np.empty(shape, np.float64 if self._has_numbers else np.int64)
        for row, piece in self._pieces(path, list(columns)):
            place = slice(row - 1, row - 1 + len(piece[self.label]))
            targets[place] = self._targets(path, row, piece, classes)
            if self.client:
                owners[place] = [clients[str(client)] for client in piece[self.client]]
            at = 0
            for name, known in columns.items():
                inputs[place, at : at + widths[name]] = _to_inputs(piece[name], known, widths[name])
                at += widths[name]
        return inputs, targets, owners


@dataclass(kw_only=True)
class _Column:
    """What is seen of a column of inputs: whether all is numbers, and else its values, unless there are too many."""

    values: set[str] = field(default_factory=set)
    first_text: tuple[int, str] | None = None
    first_infinite: tuple[int, str] | None = None
    is_finite_once: bool = False

    def look_at(self, row: int, values: Sequence[str] | NDArray[np.float64]) -> None:
        if isinstance(values, np.ndarray):
            return
        if len(self.values) <= _MAX_CATEGORIES:
            self.values.update(values)
        if self.first_text is not None:
            return
        if _as_numbers(values) is not None:
            self.is_finite_once = True
            return
        for place, value in enumerate(values):
            number = _as_number(value)
            if number is None:
                self.first_text = row + place, value
                return
            self.is_finite_once |= isfinite(number)
            if self.first_infinite is None and not isfinite(number):
                self.first_infinite = row + place, value


@dataclass(kw_only=True)
class _Survey:
    """What a first reading of a file finds."""

    columns: dict[str, _Column]
    rows: int = 0
    labels: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)


def _merge(name: str, found: list[tuple[Path, _Column]]) -> list[str]:
    """Return the categories of a column in all files, in sorted order; none where it is all numbers."""
    values = set().union(*(column.values for _, column in found))
    is_text = any(column.first_text is not None for _, column in found)
    # A column of numbers with a gap; one that has no number at all has words that only look like them.
    if not is_text and any(column.is_finite_once for _, column in found):
        for path, column in found:
            if column.first_infinite is not None:
                row, text = column.first_infinite
                raise file_error(path, f"row {row}, column {shorten(name)}: {text} is not finite; {_FILL_IN}")
    for path, column in found:
        if column.first_text is not None and len(values) > _MAX_CATEGORIES:
            row, text = column.first_text
            trouble = f"row {row}, column {shorten(name)}: {shorten(text)} is no number"
            fix = f"mend it, or leave the column out of data.features: it has over {_MAX_CATEGORIES} values"
            raise file_error(path, f"{trouble}; {fix}")
    is_all_numbers = not is_text and all(column.first_infinite is None for _, column in found)
    return [] if is_all_numbers else sorted(values)


def _number_clients(names: Set[str], test_names: Set[str] = frozenset()) -> dict[str, int]:
    """Return the number of each client; those with test samples alone come after the others."""
    clients = number_labels(list(names))
    new = number_labels(list(test_names - names))
    return clients | {name: len(clients) + place for name, place in new.items()}


def check_complete(path: Path, name: str, row: int, values: Sequence[str] | NDArray[np.float64]) -> None:
    """Raise a DataError for the first value of a piece of a column that is missing; the piece starts at `row`."""
    bad = ~np.isfinite(values) if isinstance(values, np.ndarray) else np.array([not value.strip() for value in values])
    if bad.any():
        place = int(np.argmax(bad))
        raise file_error(path, f"row {row + place}, column {shorten(name)}: is empty or not finite; {_FILL_IN}")


def _as_number(text: str) -> float | None:
    """Return a number, perhaps `nan` or `inf`, or None where the text is none."""
    try:
        return float(text)
    except ValueError:
        return None


def _as_numbers(values: Sequence[str]) -> NDArray[np.float64] | None:
    """Return finite numbers, or None where one of the texts is none."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _numbers(path: Path, row: int, name: str, values: Sequence[str] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a piece of a column of numbers to predict; raise a DataError for the first value that is none."""
    numbers = values if isinstance(values, np.ndarray) else _as_numbers(values)
    if numbers is None:
        place = next(place for place, value in enumerate(values) if _as_numbers([str(value)]) is None)
        trouble = f"row {row + place}, column {shorten(name)}: {shorten(str(values[place]))} is no number"
        raise file_error(path, f"{trouble}; mend it, or set data.target = 'class'")
    return numbers


def _to_inputs(values: Sequence[str] | NDArray[np.float64], known: list[str], width: int) -> NDArray[Any]:
    """Return the inputs of one column, [rows, width]."""
    if not known:
        numbers = values if isinstance(values, np.ndarray) else _as_numbers(values)
        assert numbers is not None
        with np.errstate(over="ignore"):  # the data set names the row that is not finite
            return numbers[:, None].astype(np.float32)
    number = {value: place for place, value in enumerate(known)}
    places = np.array([number[str(value)] for value in values])
    return places[:, None] if width == 1 else np.eye(width, dtype=np.float32)[places]
