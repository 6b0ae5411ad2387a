"""One data set in memory, as its source stored it.

Layer 1. Inputs keep their stored type (bytes stay bytes: a quarter of the memory of float32); `feed.Feed` converts the
rows that are asked for. A `Dataset` checks itself when it is made, so what follows may rely on shapes and ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples, their classes and, where the data has them, their natural clients.

    Attributes:
        name: What messages and records call it.
        inputs: Samples [n, ...] of any numeric type; images are [n, channels, height, width].
        targets: Classes [n], each in 0 .. num_classes - 1.
        owners: Natural client of each sample [n], 0 .. k - 1 without a gap; None where the data has none.
        num_classes: Number of classes.
        test_inputs: The source's own test samples [m, ...], shaped and typed like `inputs`; None where it has none.
        test_targets: Classes of the test samples [m].

    Raises:
        DataError: The arrays do not fit together, or an input is not a finite number.
    """

    name: str
    inputs: NDArray[Any]
    targets: NDArray[np.int64]
    owners: NDArray[np.int64] | None
    num_classes: int
    test_inputs: NDArray[Any] | None
    test_targets: NDArray[np.int64] | None

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        self._check_samples("inputs", self.inputs, self.targets)
        self._check_owners()
        if (self.test_inputs is None) != (self.test_targets is None):
            raise self._error("test inputs and test targets must be given together")
        if self.test_inputs is not None and self.test_targets is not None:
            self._check_samples("test inputs", self.test_inputs, self.test_targets)
            if self.test_inputs.shape[1:] != self.inputs.shape[1:]:
                raise self._error(f"test samples have shape {self.test_inputs.shape[1:]}, not {self.sample_shape}")

    def __len__(self) -> int:
        """Return the number of training samples."""
        return len(self.inputs)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.inputs.shape[1:]

    @property
    def num_owners(self) -> int:
        """Number of natural clients; 0 where the data has none."""
        return 0 if self.owners is None else int(self.owners.max()) + 1

    def _check_samples(self, what: str, inputs: NDArray[Any], targets: NDArray[np.int64]) -> None:
        if inputs.ndim < 2 or inputs.size == 0:
            raise self._error(f"{what} have shape {inputs.shape}; give a non-empty array [samples, features, ...]")
        if inputs.dtype.kind not in "buif":
            raise self._error(f"{what} have type {inputs.dtype}; give numbers")
        if targets.shape != (len(inputs),):
            raise self._error(f"{len(inputs)} {what} but targets of shape {targets.shape}; give one class a sample")
        self._check_finite(what, inputs)
        wrong = np.flatnonzero((targets < 0) | (targets >= self.num_classes))
        if wrong.size:
            raise self._error(
                f"row {wrong[0]} of {what} has class {targets[wrong[0]]}; classes must be 0 .. {self.num_classes - 1}"
            )

    def _check_finite(self, what: str, inputs: NDArray[Any]) -> None:
        if inputs.dtype.kind != "f":
            return
        finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
        if not finite.all():
            raise self._error(f"row {np.argmin(finite)} of {what} has a value that is not finite; remove it")

    def _check_owners(self) -> None:
        if self.owners is None:
            return
        if self.owners.shape != (len(self.inputs),):
            raise self._error(f"{len(self.inputs)} samples but owners of shape {self.owners.shape}; give one a sample")
        if self.owners.min() < 0 or not np.bincount(self.owners).all():
            raise self._error("owners must be numbered 0, 1, 2, ... without a gap")

    def _error(self, text: str) -> DataError:
        return DataError(f"data set {self.name}: {text}")
