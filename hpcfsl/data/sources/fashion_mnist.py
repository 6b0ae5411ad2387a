"""Fashion-MNIST, or any other data set stored as MNIST's four IDX files.

Xiao et al., "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms" (2017): 60,000 + 10,000
grey images of 28 x 28, 10 classes. The Debian package `dataset-fashion-mnist` puts it into the default folder. MNIST,
KMNIST and QMNIST load from their own folder. It has no natural clients: divide it by `iid`, `dirichlet`, `shards` or
`quantity`. Choose it for results that others can compare with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.data.sources.files import MAX_CLASSES, expand
from hpcfsl.data.sources.idx import read_idx
from hpcfsl.errors import DataError


@sources.register
class FashionMnist(Source):
    """Images and labels from a folder of four IDX files."""

    reads: ClassVar[tuple[str, ...]] = ("folder",)
    uses_seed: ClassVar[bool] = False

    source: Literal["fashion-mnist"] = "fashion-mnist"
    """Fashion-MNIST or another data set of MNIST's family, from IDX files."""

    folder: str = Field("/usr/share/datasets/fashion-mnist", min_length=1)
    """Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the same as t10k-..., each plain or .gz."""

    def load(self, seed: int) -> Dataset:
        """Return the images as stored, uint8 [n, 1, height, width], with the test set; `seed` changes nothing."""
        inputs, targets = self._read_part("train")
        test_inputs, test_targets = self._read_part("t10k")
        return Dataset(
            name=self.source,
            inputs=inputs,
            targets=targets,
            owners=None,
            num_classes=int(max(targets.max(), test_targets.max())) + 1,
            test_inputs=test_inputs,
            test_targets=test_targets,
        )

    def _read_part(self, part: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        images, labels = self._read(f"{part}-images-idx3-ubyte", 3), self._read(f"{part}-labels-idx1-ubyte", 1)
        if labels.dtype.kind not in "ui":
            raise DataError(f"folder {self.folder}: {part} labels are {labels.dtype}, no whole numbers; replace them")
        if labels.max() >= MAX_CLASSES:
            raise DataError(f"folder {self.folder}: has class {labels.max()}; number the classes 0, 1, 2, ...")
        if len(images) != len(labels) or not images.size:
            raise DataError(
                f"folder {self.folder}: {len(images)} {part} images and {len(labels)} labels; get the files again"
            )
        return images[:, None], labels.astype(np.int64)

    def _read(self, name: str, num_axes: int) -> NDArray[Any]:
        array = read_idx(self._find(name))
        if array.ndim != num_axes:
            raise DataError(f"file {self._find(name)}: has {array.ndim} axes, not {num_axes}; get the file again")
        return array

    def _find(self, name: str) -> Path:
        folder = expand("folder", self.folder)
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
        raise DataError(
            f"data.folder = {self.folder!r}: has no {name} or {name}.gz; set it to a folder with the four IDX files "
            "(Debian: apt install dataset-fashion-mnist)"
        )
