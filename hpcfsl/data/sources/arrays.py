"""Your own data, as one file of numpy arrays.

`numpy.savez("mine.npz", x=..., y=..., client=...)` writes a file that loads as it is:

| array | shape | |
|---|---|---|
| `x` | [n, ...] numbers | samples; images are [n, channels, height, width], text [n, positions] |
| `y` | [n] or [n, positions] whole numbers | classes 0, 1, 2, ...; one at each position to predict the next symbol |
| `client` | [n] numbers or strings | optional: who each sample belongs to, for the `natural` partition |
| `x_test`, `y_test` | as `x`, `y` | optional: a test set of its own |

Text is stored as symbols 0, 1, 2, ..., and `data.vocabulary` says how many of them there are.

Arrays of Python objects are refused: reading them would execute code from the file.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset, count_classes
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.errors import DataError, one_line

_MAX_CLASSES = 1_000_000
_REQUIRED = ("x", "y")
_OPTIONAL = ("client", "x_test", "y_test")


@sources.register
class Arrays(Source):
    """Samples, classes and clients from an .npz file."""

    source: Literal["npz"] = "npz"
    """Arrays x, y and perhaps client, x_test and y_test in one .npz file."""

    file: str = Field(min_length=1)
    """Path of the .npz file."""

    vocabulary: int = Field(0, ge=0, le=_MAX_CLASSES)
    """Number of symbols where x holds symbols 0, 1, 2, ...; 0 where x holds numbers."""

    def load(self, seed: int) -> Dataset:
        """Return the arrays as stored; clients are numbered in sorted order; `seed` changes nothing."""
        arrays = self._read()
        targets = self._classes(arrays, "y")
        test_targets = self._classes(arrays, "y_test") if "y_test" in arrays else None
        largest = max(labels.max(initial=0) for labels in (targets, test_targets) if labels is not None)
        return Dataset(
            name=self.file,
            inputs=arrays["x"],
            targets=targets,
            owners=self._owners(arrays),
            num_classes=count_classes(int(largest), targets.shape[1:], self.vocabulary),
            test_inputs=arrays.get("x_test"),
            test_targets=test_targets,
            vocabulary=self.vocabulary,
        )

    def _read(self) -> dict[str, NDArray[Any]]:
        path = Path(self.file).expanduser()
        if not path.exists():
            raise DataError(f"data.file = {self.file!r}: there is no such file; write it with numpy.savez")
        # Everything that numpy, zipfile and zlib raise for a damaged file; MemoryError for a shape beyond all bounds.
        try:
            # Opened here, because numpy leaves a file that is no archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in (*_REQUIRED, *_OPTIONAL) if name in archive.files}
        except (OSError, ValueError, EOFError, AttributeError, TypeError, MemoryError) as error:
            raise self._error(f"cannot be read as .npz ({error}); write it with numpy.savez") from None
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
            raise self._error(f"is damaged ({error}); write it again with numpy.savez") from None
        for name in _REQUIRED:
            if name not in arrays:
                raise self._error(f"has no array {name}; write it with numpy.savez(file, x=..., y=...)")
        return arrays

    def _classes(self, arrays: dict[str, NDArray[Any]], name: str) -> NDArray[np.int64]:
        if arrays[name].dtype.kind not in "bui":
            raise self._error(f"array {name} has type {arrays[name].dtype}; classes are whole numbers 0, 1, 2, ...")
        if arrays[name].max(initial=0) >= _MAX_CLASSES:
            raise self._error(f"array {name} holds {arrays[name].max()}; number the classes 0, 1, 2, ...")
        return arrays[name].astype(np.int64)

    def _owners(self, arrays: dict[str, NDArray[Any]]) -> NDArray[np.int64] | None:
        if "client" not in arrays:
            return None
        if arrays["client"].ndim != 1:
            raise self._error(f"array client has shape {arrays['client'].shape}; give one client a sample")
        return np.unique(arrays["client"], return_inverse=True)[1].astype(np.int64)

    def _error(self, text: str) -> DataError:
        return DataError(one_line(f"file {self.file}: {text}"))
