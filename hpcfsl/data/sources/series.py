"""Your own series, from a table with a row for each step: windows of it to forecast what follows, or to classify.

A CSV, Parquet or NPZ file (`hpcfsl.data.sources.columns`) holds any number of series, told apart by a column for the
client and one for the part (recordings of one client, which no window crosses). Rows are ordered by the column of time
and taken as equally far apart; `hpcfsl.data.sources.windows` says what becomes of them. Choose it for sensors, loads
and prices: `data.horizon` forecasts, `data.label` classifies.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, nan
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.columns import Columns
from hpcfsl.data.sources.files import file_error, find_file, number_labels
from hpcfsl.data.sources.windows import Run, Windowed
from hpcfsl.errors import ConfigError, shorten


@sources.register
class Series(Windowed):
    """Windows of the series in a table."""

    reads: ClassVar[tuple[str, ...]] = ("file",)
    uses_seed: ClassVar[bool] = False

    source: Literal["series"] = "series"
    """Series from a CSV, Parquet or NPZ file, as windows to forecast or to classify."""

    file: str = Field(min_length=1)
    """Path of the file: .parquet, .npz (arrays of one axis), anything else is CSV."""

    values: tuple[str, ...] = Field(min_length=1, max_length=10_000)
    """Names of the columns whose past is known, in that order: numbers."""

    horizon: int = Field(0, ge=0, le=1_000_000)
    """Steps to forecast; 0 where `label` names a class."""

    targets: tuple[str, ...] = Field((), max_length=10_000)
    """Names of the columns to forecast; empty for those of `values`."""

    label: str = ""
    """Name of a column with a class, that of a window's last row; empty for a forecast."""

    client: str = ""
    """Name of the column that says whose a row is; empty where there is none."""

    part: str = ""
    """Name of a column that tells apart the recordings of a client; empty where each has one."""

    time: str = ""
    """Name of the column that rows are ordered by, numbers or texts such as 2024-01-31T12:00; empty for the file's
    order."""

    delimiter: Literal[",", ";", "\t", "|", " "] = ","
    """CSV: what stands between two cells."""

    def load(self, seed: int) -> Dataset:
        """Return windows, float32 [n, window, values], with forecasts or classes; `seed` changes nothing.

        Raises:
            DataError: The file is missing or broken; the text names row and column.
            ConfigError: A column does not exist, or no series is long enough.
        """
        self._check_task()
        path = find_file("file", self.file, "set it to the path of a table")
        ahead = () if self.label else self.targets or self.values
        numbers = list(dict.fromkeys((*self.values, *ahead)))
        columns = Columns(path, self.delimiter)
        wanted = {key: name for key in ("label", "client", "part", "time") if (name := getattr(self, key))}
        columns.check_names(
            [*(("values", name) for name in self.values), *(("targets", name) for name in ahead), *wanted.items()]
        )
        values, found = columns.read(numbers=numbers, texts=list(wanted.values()))
        texts = dict(zip(wanted, found, strict=True))
        dataset = self.cut(
            self.file,
            list(self._runs(path, values, texts)),
            known=list(range(len(self.values))),
            ahead=[numbers.index(name) for name in ahead],
            horizon=self.horizon,
        )
        return dataset if self.client else _without_owners(dataset)

    def _check_task(self) -> None:
        if self.label and (self.horizon or self.targets):
            raise ConfigError(
                "data.label", self.label, "windows have a class or a forecast; leave out horizon and targets"
            )
        if not self.label and not self.horizon:
            raise ConfigError("data.horizon", self.horizon, "give the steps to forecast, or data.label to classify")
        if len(set(self.values)) < len(self.values):
            raise ConfigError("data.values", list(self.values), "names a column twice; name each once")

    def _runs(self, path: Path, values: NDArray[np.float64], texts: dict[str, list[str]]) -> Iterator[Run]:
        """Yield the series in sorted order of client and part."""
        nothing = [""] * len(values)
        clients, parts = texts.get("client", nothing), texts.get("part", nothing)
        series = np.unique(np.array(list(map("\0".join, zip(clients, parts, strict=True)))), return_inverse=True)[1]
        order = np.lexsort((_ranks(path, self.time, texts.get("time", nothing)), series))
        classes = number_labels(texts.get("label", []))
        labels = np.array([classes[label] for label in texts.get("label", [])], np.int64)
        for rows in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
            yield Run(owner=clients[rows[0]], values=values[rows], labels=labels[rows] if self.label else None)


def _ranks(path: Path, column: str, times: list[str]) -> NDArray[np.int64]:
    """Return the place of each time in the order of all: that of numbers if all are numbers, else that of texts."""
    numbers = np.array([_number(time) for time in times])
    odd = np.isnan(numbers) != np.isnan(numbers[0])
    if odd.any():  # in the order of texts 10 comes before 9
        row = int(np.argmax(odd))
        trouble = f"row {row + 1}, column {shorten(column)}: {shorten(times[row])} is"
        trouble += (
            " no number, and those before it are" if np.isnan(numbers[row]) else " a number, and those before not"
        )
        raise file_error(path, f"{trouble}; write all times alike")
    return np.unique(np.array(times) if np.isnan(numbers[0]) else numbers, return_inverse=True)[1]


def _number(text: str) -> float:
    """Return a finite number, or NaN for any other text."""
    try:
        number = float(text)
    except ValueError:
        return nan
    return number if isfinite(number) else nan


def _without_owners(dataset: Dataset) -> Dataset:
    return Dataset(**{**vars(dataset), "owners": None, "test_owners": None})
