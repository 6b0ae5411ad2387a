"""CIFAR-10 and CIFAR-100, from the python batches that their authors publish.

Krizhevsky, "Learning multiple layers of features from tiny images" (2009): 50,000 + 10,000 colour images of 32 x 32, of
10 or of 100 classes. Unpack `cifar-10-python.tar.gz` or `cifar-100-python.tar.gz`. The batches are pickles, read by
`hpcfsl.data.sources.pickles`, which runs nothing. They have no natural clients: divide them by `iid`, `dirichlet`,
`shards` or `quantity`. Choose them for image models that a quick data set does not tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.files import file_error, find_folder
from hpcfsl.data.sources.pickles import read_pickled_dict
from hpcfsl.errors import DataError

_IMAGE = (3, 32, 32)
_TEN = tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",)
_HUNDRED = ("train",), ("test",)
_INSIDE = ("cifar-10-batches-py", "cifar-100-python")
_FIX = "set it to the folder that cifar-10-python.tar.gz or cifar-100-python.tar.gz unpacks to"


@sources.register
class Cifar(Source):
    """Images and labels from a folder of CIFAR's python batches."""

    reads: ClassVar[tuple[str, ...]] = ("folder",)
    uses_seed: ClassVar[bool] = False

    source: Literal["cifar"] = "cifar"
    """CIFAR-10 or CIFAR-100, from their python batches."""

    folder: str = Field(min_length=1)
    """Folder with data_batch_1 to data_batch_5 and test_batch, or with train and test; or the folder it lies in."""

    labels: Literal["fine", "coarse"] = "fine"
    """CIFAR-100: its 100 classes, or the 20 kinds that they belong to. CIFAR-10 has one set only."""

    def load(self, seed: int) -> Dataset:
        """Return the images as stored, uint8 [n, 3, 32, 32], with the test set; `seed` changes nothing."""
        folder = self._find()
        hundred = not (folder / _TEN[0][0]).is_file()
        train, test = _HUNDRED if hundred else _TEN
        key, num_classes = ("labels", 10) if not hundred else (f"{self.labels}_labels", 100)
        num_classes = 20 if key == "coarse_labels" else num_classes
        inputs, targets = _read_part(folder, train, key, num_classes)
        test_inputs, test_targets = _read_part(folder, test, key, num_classes)
        return Dataset(
            name=f"{self.source}-{100 if hundred else 10}",
            inputs=inputs,
            targets=targets,
            owners=None,
            num_classes=num_classes,
            test_inputs=test_inputs,
            test_targets=test_targets,
        )

    def _find(self) -> Path:
        given = find_folder("folder", self.folder, _FIX)
        for folder in (given, *(given / name for name in _INSIDE)):
            if (folder / _TEN[0][0]).is_file() or (folder / _HUNDRED[0][0]).is_file():
                return folder
        raise DataError(f"data.folder = {self.folder!r}: has neither data_batch_1 nor train; {_FIX}")


def _read_part(
    folder: Path, names: tuple[str, ...], key: str, num_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = [_read_batch(folder / name, key, num_classes) for name in names]
    images, labels = zip(*parts, strict=True)
    return arena.joined(images), np.concatenate(labels)


def _read_batch(path: Path, key: str, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images [n, 3, 32, 32] and labels [n] of one batch."""
    batch = read_pickled_dict(path)
    pixels = batch.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * 32 * 32,):
        raise file_error(path, "has no array data of bytes [n, 3072]; get the file again")
    return pixels.reshape(-1, *_IMAGE), _check_labels(path, key, batch.get(key), len(pixels), num_classes)


def _check_labels(path: Path, key: str, labels: Any, count: int, num_classes: int) -> NDArray[np.int64]:
    if not isinstance(labels, list) or len(labels) != count:
        raise file_error(path, f"has no list {key} of {count} numbers; get the file again")
    for place, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < num_classes:
            raise file_error(
                path, f"record {place} of {key} is not a number 0 .. {num_classes - 1}; get the file again"
            )
    return np.array(labels, np.int64)
