"""Federated data sets in the HDF5 files of TensorFlow Federated, which FedML uses too.

A file holds one group a client: `examples/<client id>/` with the arrays of that client's samples. These are known:

| file | arrays of a client | samples |
|---|---|---|
| `fed_emnist_train.h5`, `fed_emnist_digitsonly_train.h5` | `pixels` [n, 28, 28], `label` [n] | images, [1, 28, 28] |
| `fed_cifar100_train.h5` | `image` [n, 32, 32, 3], `label` [n] | images, [3, 32, 32] |
| `shakespeare_train.h5` | `snippets` [n], strings | windows of the client's text, to predict the next character |

Each has a test file beside it, `..._test.h5`, with test samples of the same clients. The clients of a file are natural
ones: writers, roles of the plays, kinds of things. Clients are read one after the other into arrays of the final size.
Choose it for results that others can compare with. Source: https://www.tensorflow.org/federated/api_docs/python/tff/simulation/datasets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.characters import ALPHABET, cut_windows, encode
from hpcfsl.data.sources.files import MAX_CLASSES, check_fits, file_error, find_file, number_test_owners
from hpcfsl.data.sources.hdf5_file import find_array, find_group, hdf5_errors, open_hdf5, read_numbers, read_texts
from hpcfsl.errors import ConfigError, shorten

_FIX = "set it to a file such as fed_emnist_train.h5"
_EXAMPLES = "examples"
_IMAGES = ("pixels", "image")
_TEXT = "snippets"


@sources.register
class TffHdf5(Source):
    """Images or text from a federated HDF5 file of TensorFlow Federated or FedML, with its clients."""

    reads: ClassVar[tuple[str, ...]] = ("file", "test_file")
    uses_seed: ClassVar[bool] = False

    source: Literal["tff-hdf5"] = "tff-hdf5"
    """A federated HDF5 file of TensorFlow Federated or FedML: fed_emnist, fed_cifar100, shakespeare."""

    file: str = Field(min_length=1)
    """Path of the training file, such as fed_emnist_train.h5."""

    test_file: str = ""
    """Path of the test file, such as fed_emnist_test.h5; without one, the partition holds out samples."""

    clients: int = Field(0, ge=0, le=100_000_000)
    """Read only so many clients of each file, the first by name; 0 for all."""

    positions: int = Field(80, ge=1, le=1_000_000)
    """Text: characters in a sample. A client with fewer is left out."""

    def load(self, seed: int) -> Dataset:
        """Return images as stored, [n, channels, height, width], or windows of text; `seed` changes nothing.

        Raises:
            DataError: A file is missing or broken; the text names the client.
            ConfigError: No client has text enough.
        """
        train = self._read("file", self.file)
        test = self._read("test_file", self.test_file, of=train.names) if self.test_file else None
        labels = [part.targets for part in (train, test) if part is not None]
        return Dataset(
            name=self.file,
            inputs=train.inputs,
            targets=train.targets,
            owners=train.owners,
            test_owners=None if test is None else number_test_owners(train.names, test.names)[test.owners],
            num_classes=len(ALPHABET) if train.text else max(int(each.max()) for each in labels) + 1,
            test_inputs=None if test is None else test.inputs,
            test_targets=None if test is None else test.targets,
            vocabulary=len(ALPHABET) if train.text else 0,
        )

    def _read(self, key: str, value: str, of: list[str] | None = None) -> _Part:
        """Return what a file holds; where `data.clients` limits them, the test samples `of` the clients that train."""
        path = find_file(key, value, _FIX)
        with open_hdf5(path) as file:
            examples = find_group(path, file, _EXAMPLES, f"it is no federated file; {_FIX}")
            wanted = set(of) if of is not None and self.clients else None
            names = [name for name in sorted(examples) if wanted is None or name in wanted][: self.clients or None]
            if not names:
                raise file_error(path, f"has no client in {_EXAMPLES}; get the file again")
            clients = _Clients(path, examples, names)
            return clients.read_text(key, self.positions) if clients.have_text() else clients.read_images()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """What one file holds: samples, classes, the client of each, and the names of the clients in sorted order."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    owners: NDArray[np.int64]
    names: list[str]
    text: bool


class _Clients:
    """The clients of an open file."""

    def __init__(self, path: Path, examples: Any, names: list[str]) -> None:
        self._path, self._examples, self._names = path, examples, names

    def have_text(self) -> bool:
        """Return whether the first client has text; the others must have what it has."""
        return find_array(self._path, self._group(self._names[0]), _TEXT) is not None

    def read_images(self) -> _Part:
        """Return the images of all clients; two passes, so that nothing is held twice."""
        counts, shape, kind = self._measure()
        total = int(counts.sum())
        check_fits(self._path, f"{total} images", total * (int(np.prod(shape)) * kind.itemsize + 16))
        inputs, targets = arena.empty((total, *shape), kind), np.empty(total, np.int64)
        ends = np.cumsum(counts)
        for name, start, end in zip(self._names, ends - counts, ends, strict=True):
            with self._errors(name):
                images, labels = self._arrays(name)
                inputs[start:end] = _channels_first(read_numbers(self._path, images))
                targets[start:end] = read_numbers(self._path, labels)
                self._check_labels(name, targets[start:end])
        owners = np.repeat(np.arange(len(counts)), counts)
        return _Part(inputs=inputs, targets=targets, owners=owners, names=self._names, text=False)

    def read_text(self, key: str, positions: int) -> _Part:
        """Return windows of the text of all clients whose text is long enough."""
        found = {name: cut for name, cut in zip(self._names, self._windows(positions), strict=True) if len(cut)}
        windows = list(found.values())
        if not windows:
            raise ConfigError("data.positions", positions, f"no client of data.{key} has so many characters; lower it")
        samples = arena.joined(windows)
        owners = np.repeat(np.arange(len(windows)), [len(cut) for cut in windows])
        return _Part(inputs=samples[:, :-1], targets=samples[:, 1:], owners=owners, names=list(found), text=True)

    def _windows(self, positions: int) -> Iterator[NDArray[np.uint8]]:
        for name in self._names:
            with self._errors(name):
                texts = find_array(self._path, self._group(name), _TEXT)
                if texts is None:
                    raise self._error(name, f"has no array {_TEXT}")
                # Copied, because a window is a view of the whole text many times over.
                yield cut_windows(encode("\n".join(read_texts(self._path, texts))), positions).copy()

    def _measure(self) -> tuple[NDArray[np.int64], tuple[int, ...], np.dtype[Any]]:
        """Return the number of images of each client, and the shape and type of one."""
        found = []
        for name in self._names:
            with self._errors(name):
                images, labels = self._arrays(name)
                found.append((len(images), (images.shape[1:], images.dtype)))
                if len(labels) != len(images):
                    raise self._error(name, f"has {len(images)} images and {len(labels)} labels")
                if found[-1][1] != found[0][1]:
                    raise self._error(name, f"has images {images.dtype} {images.shape[1:]}, unlike {self._names[0]!r}")
        shape, kind = found[0][1]
        return np.array([count for count, _ in found]), _channels_first(np.empty((1, *shape))).shape[1:], kind

    def _arrays(self, name: str) -> tuple[Any, Any]:
        group = self._group(name)
        found = [array for key in _IMAGES if (array := find_array(self._path, group, key)) is not None]
        labels = find_array(self._path, group, "label")
        if not found or labels is None or found[0].ndim not in (3, 4) or labels.ndim != 1 or not found[0].shape[0]:
            raise self._error(
                name, "has no pixels [n, height, width] or image [n, height, width, channels] with label [n]"
            )
        if labels.dtype.kind not in "ui":
            raise self._error(name, f"has labels of type {labels.dtype}, not whole numbers")
        return found[0], labels

    def _check_labels(self, name: str, labels: NDArray[np.int64]) -> None:
        if labels.min() < 0 or labels.max() >= MAX_CLASSES:
            raise self._error(name, f"has labels {labels.min()} .. {labels.max()}, not 0, 1, 2, ...")

    def _group(self, name: str) -> Any:
        return find_group(self._path, self._examples, name, "get the file again")

    def _errors(self, name: str) -> Any:
        return hdf5_errors(self._path, f"client {shorten(name)} cannot be read")

    def _error(self, name: str, text: str) -> Exception:
        return file_error(self._path, f"client {shorten(name)} {text}; get the file again")


def _channels_first(images: NDArray[Any]) -> NDArray[Any]:
    """Return [n, channels, height, width] of images [n, height, width] or [n, height, width, channels]."""
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
