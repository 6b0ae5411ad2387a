"""Your own data, as one file of named arrays: what `npz` and `hdf5` have in common.

| array | shape | |
|---|---|---|
| `x` | [n, ...] numbers | samples; images are [n, channels, height, width], text [n, positions] |
| `y` | [n] or [n, positions] whole numbers | classes 0, 1, 2, ...; one at each position to predict the next symbol |
| | [n] or [n, outputs] floating-point | numbers to predict; whole ones may be classes, see `hpcfsl.targets` |
| `client` | [n] numbers or strings | optional: who each sample belongs to, for the `natural` partition |
| `x_test`, `y_test` | as `x`, `y` | optional: a test set of its own |
| `client_test` | as `client` | optional: who each test sample belongs to |

Text is stored as symbols 0, 1, 2, ..., and `data.vocabulary` says how many of them there are.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset, count_classes, numbers_to_predict
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.files import (
    MAX_CLASSES,
    check_texts,
    file_error,
    find_file,
    number_owners,
    number_test_owners,
)

REQUIRED = ("x", "y")
OPTIONAL = ("client", "x_test", "y_test", "client_test")
_NUMBERS = "buif"


class ArrayFile(Source):
    """Samples, classes and clients from one file; a subclass reads it."""

    how_to_write: ClassVar[str]
    """What writes such a file, for messages."""

    reads: ClassVar[tuple[str, ...]] = ("file",)
    uses_seed: ClassVar[bool] = False

    file: str = Field(min_length=1)
    """Path of the file."""

    vocabulary: int = Field(0, ge=0, le=MAX_CLASSES)
    """Number of symbols where x holds symbols 0, 1, 2, ...; 0 where x holds numbers."""

    @abstractmethod
    def read(self, path: Path) -> dict[str, NDArray[Any]]:
        """Return those of the arrays `REQUIRED` and `OPTIONAL` that the file has."""

    def load(self, seed: int) -> Dataset:
        """Return the arrays as stored; clients are numbered in sorted order; `seed` changes nothing."""
        path = find_file("file", self.file, f"write it with {self.how_to_write}")
        arrays = self.read(path)
        for name in REQUIRED:
            if name not in arrays:
                raise file_error(path, f"has no array {name}; write it with {self.how_to_write}")
        targets = _targets(path, arrays, "y")
        test_targets = _targets(path, arrays, "y_test") if "y_test" in arrays else None
        if test_targets is not None and test_targets.dtype != targets.dtype:
            raise file_error(path, "arrays y and y_test must both hold classes, whole numbers, or both floating-point")
        largest = max(labels.max(initial=0) for labels in (targets, test_targets) if labels is not None)
        numbers = targets.dtype.kind == "f"
        clients = _clients(path, arrays, "client")
        return Dataset(
            name=self.file,
            inputs=arrays["x"],
            targets=targets,
            owners=None if clients is None else number_owners(clients),
            num_classes=0 if numbers else count_classes(int(largest), targets.shape[1:], self.vocabulary),
            test_inputs=arrays.get("x_test"),
            test_targets=test_targets,
            vocabulary=self.vocabulary,
            test_owners=_test_owners(path, arrays, clients),
            stored="numbers" if numbers else "classes",
        )


def _targets(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """Return classes, int64 as stored, or numbers to predict, float64 [n, outputs]."""
    labels = arrays[name]
    if labels.dtype.kind == "f":
        return numbers_to_predict(labels.astype(np.float64, copy=False))
    if labels.dtype.kind not in "bui":
        raise file_error(path, f"array {name} has type {labels.dtype}; classes are whole numbers 0, 1, 2, ...")
    if labels.max(initial=0) >= MAX_CLASSES:
        raise file_error(path, f"array {name} holds {labels.max()}; number the classes 0, 1, 2, ...")
    classes = arena.empty(labels.shape, np.int64)
    classes[...] = labels
    return classes


def _clients(path: Path, arrays: dict[str, NDArray[Any]], name: str) -> NDArray[Any] | None:
    """Return the names or numbers of the clients in an array, checked; None where there is no such array."""
    if name not in arrays:
        return None
    array = arrays[name]
    if array.ndim != 1:
        raise file_error(path, f"array {name} has shape {array.shape}; give one client a sample")
    check_texts(path, name, array)
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array


def _test_owners(path: Path, arrays: dict[str, NDArray[Any]], clients: NDArray[Any] | None) -> NDArray[np.int64] | None:
    test_clients = _clients(path, arrays, "client_test")
    if test_clients is None:
        return None
    if clients is None:
        raise file_error(path, "has client_test and no client; give both, or neither")
    if (clients.dtype.kind in _NUMBERS) != (test_clients.dtype.kind in _NUMBERS):
        kinds = f"client has type {clients.dtype} and client_test {test_clients.dtype}"
        raise file_error(path, f"{kinds}; give texts in both, or numbers in both")
    return number_test_owners(clients, test_clients)
