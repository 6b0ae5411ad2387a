"""Your own texts, from a table with a row for each: a class or a number to tell from every text.

A CSV, Parquet or NPZ file (`hpcfsl.data.sources.columns`) has a column of texts, one of labels, and perhaps one that
says whose a text is. Texts become symbols as `hpcfsl.data.sources.tokens` says; long ones are cut off, short ones are
filled up in front with symbol 0. Labels are classes, numbers to predict, or numbers that thresholds make classes of.

The test set is chosen before symbols are learnt, `test_share` of each client's texts at random, so that the vocabulary
is that of the training texts alone. Choose it for reviews, posts and messages; VADER's rated sentences load with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.population import hold_out
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.columns import Columns
from hpcfsl.data.sources.files import (
    check_fits,
    check_written_alike,
    find_file,
    number_labels,
    number_owners,
    number_test_owners,
)
from hpcfsl.data.sources.tokens import MAX_VOCABULARY, MIN_VOCABULARY, Tokeniser, Unit, fill_up, make_tokeniser
from hpcfsl.errors import ConfigError

_FIX = "set it to the path of a table"
_BYTES_OF_SYMBOL = 2


@sources.register
class TextTable(Source):
    """Texts from a table, with a class or a number each."""

    reads: ClassVar[tuple[str, ...]] = ("file", "test_file")

    source: Literal["text-table"] = "text-table"
    """Texts from a CSV, Parquet or NPZ file, to classify or to rate."""

    standardise: bool = True
    """Whether numbers to predict are shifted and scaled to mean 0 and standard deviation 1; symbols never are."""

    file: str = Field(min_length=1)
    """Path of the file: .parquet, .npz (arrays of one axis), anything else is CSV."""

    test_file: str = ""
    """Path of a test set with the same columns; empty to choose `test_share` of the texts."""

    text: str = Field(min_length=1)
    """Name of the column with the texts."""

    label: str = Field(min_length=1)
    """Name of the column with the label."""

    target: Literal["class", "number"] = "class"
    """Whether the label is a class or a number to predict."""

    thresholds: tuple[Annotated[float, Field(ge=-1e12, le=1e12)], ...] = Field((), max_length=1000)
    """Classes from a label that is a number, in rising order: the class is the number of thresholds that it reaches.
    Empty where labels are classes, which are numbered in sorted order."""

    client: str = ""
    """Name of the column that says whose a text is; empty where there is none."""

    unit: Unit = "word"
    """What a symbol stands for; words and pairs are learnt from the training texts."""

    vocabulary: int = Field(4096, ge=MIN_VOCABULARY, le=MAX_VOCABULARY)
    """word, hashed-word, byte-pair: number of symbols, at most."""

    positions: int = Field(64, ge=1, le=1_000_000)
    """Symbols in a sample; the end of a longer text is cut off."""

    test_share: float = Field(0.2, gt=0.0, lt=1.0)
    """Without `test_file`: share of each client's texts that is the test set, rounded down; one is trained on."""

    delimiter: Literal[",", ";", "\t", "|", " "] = ","
    """CSV: what stands between two cells."""

    def load(self, seed: int) -> Dataset:
        """Return symbols, uint16 [n, positions]; `seed` chooses the test set where the data has none.

        Raises:
            DataError: A file is missing or broken; the text names row and column.
            ConfigError: A column does not exist, or no text is left to test on.
        """
        if self.thresholds and (self.target == "number" or list(self.thresholds) != sorted(set(self.thresholds))):
            raise ConfigError("data.thresholds", list(self.thresholds), "make classes of numbers, in rising order")
        path = find_file("file", self.file, _FIX)
        train, test = self._read_both(path, seed)
        tokeniser = make_tokeniser(self.unit, self.vocabulary, train.texts)
        check_written_alike(path, self.label, {*train.labels, *test.labels})
        classes = number_labels([*train.labels, *test.labels])
        return Dataset(
            name=self.file,
            inputs=self._encode(path, tokeniser, train.texts),
            targets=self._targets(train, classes),
            owners=number_owners(train.clients) if self.client else None,
            num_classes=0 if self.target == "number" else len(classes) or len(self.thresholds) + 1,
            test_inputs=self._encode(path, tokeniser, test.texts),
            test_targets=self._targets(test, classes),
            vocabulary=tokeniser.vocabulary,
            test_owners=number_test_owners(train.clients, test.clients) if self.client else None,
        )

    def _read_both(self, path: Path, seed: int) -> tuple[_Texts, _Texts]:
        if self.test_file:
            return self._read(path), self._read(find_file("test_file", self.test_file, _FIX))
        return self._read(path).divide(self.test_share, seed)

    def _read(self, path: Path) -> _Texts:
        columns = Columns(path, self.delimiter)
        wanted = {key: name for key in ("text", "label", "client") if (name := getattr(self, key))}
        columns.check_names(list(wanted.items()))
        is_number = self.target == "number" or bool(self.thresholds)
        texts = {key: name for key, name in wanted.items() if key != "label" or not is_number}
        numbers, found = columns.read(numbers=[self.label] if is_number else [], texts=list(texts.values()))
        named = dict(zip(texts, found, strict=True))
        return _Texts(
            texts=named["text"],
            clients=named.get("client", [""] * len(named["text"])),
            labels=np.array(named.get("label", []), object),
            numbers=numbers.reshape(-1),
        )

    def _targets(self, part: _Texts, classes: dict[str, int]) -> NDArray[Any]:
        """Return the class of each row, int64 [n], or the number, float32 [n, 1]."""
        if self.target == "number":
            with np.errstate(over="ignore"):  # the data set names the row that is not finite
                return part.numbers.astype(np.float32)[:, None]
        if self.thresholds:
            return np.searchsorted(np.array(self.thresholds), part.numbers, side="right").astype(np.int64)
        return np.array([classes[label] for label in part.labels], np.int64)

    def _encode(self, path: Path, tokeniser: Tokeniser, texts: list[str]) -> NDArray[np.uint16]:
        check_fits(path, f"{len(texts)} texts", _BYTES_OF_SYMBOL * len(texts) * self.positions)
        symbols = arena.empty((len(texts), self.positions), np.uint16)
        for place, text in enumerate(texts):
            symbols[place] = fill_up(tokeniser.encode(text), self.positions)
        return symbols


@dataclass(frozen=True, kw_only=True, eq=False)
class _Texts:
    """The rows of a file, or some of them.

    Attributes:
        texts: The texts [n].
        clients: Whose each is [n], all "" where nobody says.
        labels: Labels that are classes [n].
        numbers: Labels that are numbers [n].
    """

    texts: list[str]
    clients: list[str]
    labels: NDArray[np.object_]
    numbers: NDArray[np.float64]

    def divide(self, share: float, seed: int) -> tuple[_Texts, _Texts]:
        """Return the rows to train on, and `share` of each client's to test on."""
        owners = number_owners(self.clients)
        drawn = hold_out(owners, test_fraction=share, seed=seed, owners=np.arange(owners.max() + 1))
        if not len(drawn.test):
            fix = "holds out no text, because clients have too few; raise it, or leave out data.client"
            raise ConfigError("data.test_share", share, fix)
        return self._take(drawn.train_pool()), self._take(drawn.test_pool())

    def _take(self, rows: NDArray[np.int64]) -> _Texts:
        return _Texts(
            texts=[self.texts[row] for row in rows],
            clients=[self.clients[row] for row in rows],
            labels=self.labels[rows] if len(self.labels) else self.labels,
            numbers=self.numbers[rows] if len(self.numbers) else self.numbers,
        )
