"""One data set in memory, as its source stored it.

Layer 1. Arrays keep their stored type (bytes stay bytes: a quarter of the memory of float32); `feed.Feed` converts the
rows that are asked for. A `Dataset` checks itself when it is made, so what follows may rely on shapes and ranges.

Samples are numbers of any shape with one class each, or sequences of symbols, as in text: `vocabulary` says how many
symbols there are. A sequence has one class, or one at each position; predicting the next symbol is the second kind,
with the symbols as classes. Where `num_classes` is 0 the targets are numbers to predict (regression, forecasts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import DataError

_PIECE_NUMBERS = 1 << 19
_LARGEST = float(np.finfo(np.float32).max)


def count_classes(largest: int, target_shape: tuple[int, ...], vocabulary: int) -> int:
    """Return how many classes data have whose largest one is `largest`.

    Sequences with a class at each position are taken for those of a language model, whose classes are the symbols.
    """
    return max(largest + 1, vocabulary if target_shape else 1)


def numbers_to_predict(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers [n] or [n, outputs] as targets, [n, outputs]."""
    return values[:, None] if values.ndim == 1 else values


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Samples, their targets and, where the data has them, their natural clients.

    Attributes:
        name: What messages and records call it.
        inputs: Samples [n, ...] of any numeric type; images are [n, channels, height, width], sequences of symbols are
            whole numbers 0 .. vocabulary - 1, [n, positions].
        targets: Classes of any integer type, each in 0 .. num_classes - 1: [n], or [n, positions] where every position
            has one. Where `num_classes` is 0 numbers of any floating type, [n, outputs].
        owners: Natural client of each sample [n], 0 .. k - 1 without a gap; None where the data has none.
        num_classes: Number of classes; 0 where the targets are numbers.
        test_inputs: The source's own test samples [m, ...], shaped and typed like `inputs`; None where it has none.
        test_targets: Targets of the test samples, [m, ...] as `targets`.
        vocabulary: Number of symbols; 0 where the inputs are numbers.
        test_owners: Natural client of each test sample [m], numbered as `owners`; whoever has test samples alone has a
            number after those. None where nobody knows.
        last_values: Forecasts: for each output, the place in a flattened sample of the last known value of what it
            forecasts, so that the naive forecast is to repeat it; () for all else.
        stored: What the type of targets makes of them as they were stored, where nothing but that type says what they
            are: `hpcfsl.targets` may then take them for the other. "" where the data themselves know.

    Raises:
        DataError: The arrays do not fit together, or an input or a target is not a finite number.
    """

    name: str
    inputs: NDArray[Any]
    targets: NDArray[Any]
    owners: NDArray[np.int64] | None
    num_classes: int
    test_inputs: NDArray[Any] | None
    test_targets: NDArray[Any] | None
    vocabulary: int = 0
    test_owners: NDArray[np.int64] | None = None
    last_values: tuple[int, ...] = ()
    stored: Literal["", "classes", "numbers"] = ""

    def __post_init__(self) -> None:
        """Check the arrays against each other."""
        self._check_samples("inputs", self.inputs, self.targets)
        self._check_owners()
        self._check_test_owners()
        self._check_last_values()
        if (self.test_inputs is None) != (self.test_targets is None):
            raise self._error("test inputs and test targets must be given together")
        if self.test_inputs is not None and self.test_targets is not None:
            self._check_samples("test inputs", self.test_inputs, self.test_targets)
            if self.test_inputs.shape[1:] != self.inputs.shape[1:]:
                raise self._error(f"test samples have shape {self.test_inputs.shape[1:]}, not {self.sample_shape}")
            if self.test_targets.ndim != self.targets.ndim:
                raise self._error("training and test samples must both have one class each, or one at each position")
            if self.has_numbers and self.test_targets.shape[1:] != self.target_shape:
                found, wanted = self.test_targets.shape[1], self.num_outputs
                raise self._error(f"test samples have {found} targets each and training samples {wanted}")

    def __len__(self) -> int:
        """Return the number of training samples."""
        return len(self.inputs)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.inputs.shape[1:]

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of one sample's targets: () for one class, (positions,) for one at each, (outputs,) for numbers."""
        return self.targets.shape[1:]

    @property
    def has_numbers(self) -> bool:
        """Whether the targets are numbers, not classes."""
        return self.num_classes == 0

    @property
    def num_outputs(self) -> int:
        """What a model puts out for a target: a logit for each class, or the numbers themselves."""
        return self.targets.shape[1] if self.has_numbers else self.num_classes

    @property
    def num_owners(self) -> int:
        """Number of natural clients; 0 where the data has none."""
        return 0 if self.owners is None else int(self.owners.max()) + 1

    @property
    def num_test_only_owners(self) -> int:
        """Number of natural clients that have test samples and none to train on."""
        return 0 if self.test_owners is None else max(int(self.test_owners.max()) + 1 - self.num_owners, 0)

    def _check_samples(self, what: str, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
        if inputs.ndim < 2 or inputs.size == 0:
            raise self._error(f"{what} have shape {inputs.shape}; give a non-empty array [samples, features, ...]")
        if inputs.dtype.kind not in "buif":
            raise self._error(f"{what} have type {inputs.dtype}; give numbers")
        self._check_finite(what, inputs)
        if self.has_numbers:
            self._check_numbers(what, targets, len(inputs))
        else:
            self._check_classes(what, targets, inputs.shape)
        if self.vocabulary:
            if inputs.ndim != 2 or inputs.dtype.kind not in "ui":
                raise self._error(
                    f"{what} are {inputs.dtype} {inputs.shape}; symbols are integers [samples, positions]"
                )
            self._check_range(what, "symbol", inputs, self.vocabulary)

    def _check_numbers(self, what: str, targets: NDArray[Any], count: int) -> None:
        if targets.dtype.kind != "f" or targets.ndim != 2 or len(targets) != count or not targets.shape[1]:
            fix = "give floating-point numbers [samples, outputs]"
            raise self._error(f"{count} {what} but targets of type {targets.dtype} and shape {targets.shape}; {fix}")
        self._check_finite(f"the targets of {what}", targets)

    def _check_classes(self, what: str, targets: NDArray[Any], shape: tuple[int, ...]) -> None:
        if targets.shape not in (shape[:1], shape[:2]):
            fix = "give one class a sample, or one a position"
            raise self._error(f"{shape[0]} {what} but targets of shape {targets.shape}; {fix}")
        if targets.dtype.kind not in "bui":
            raise self._error(f"the targets of {what} have type {targets.dtype}; classes are whole numbers")
        self._check_range(what, "class", targets, self.num_classes)

    def _check_range(self, what: str, kind: str, values: NDArray[Any], limit: int) -> None:
        if values.min() >= 0 and values.max() < limit:
            return
        place = tuple(np.argwhere((values < 0) | (values >= limit))[0])
        fix = f"{'classes' if kind == 'class' else 'symbols'} must be 0 .. {limit - 1}"
        raise self._error(f"row {place[0]} of {what} has {kind} {values[place]}; {fix}")

    def _check_finite(self, what: str, inputs: NDArray[Any]) -> None:
        if inputs.dtype.kind != "f":
            return
        piece = max(1, _PIECE_NUMBERS // max(inputs[0].size, 1))  # at once would take a byte for each number
        for start in range(0, len(inputs), piece):
            rows = inputs[start : start + piece]
            # Of longer types, what float32 cannot hold: models take that, and the squares of more overflow.
            finite = (np.abs(rows) <= _LARGEST if inputs.itemsize > 4 else np.isfinite(rows)).reshape(len(rows), -1)
            if not finite.all():
                row = int(np.argmin(finite.all(axis=1)))
                trouble = "is too large for float32" if np.isfinite(rows[row]).all() else "is not finite"
                raise self._error(f"row {start + row} of {what} has a value that {trouble}; remove it")

    def _check_owners(self) -> None:
        if self.owners is None:
            return
        if self.owners.shape != (len(self.inputs),):
            raise self._error(f"{len(self.inputs)} samples but owners of shape {self.owners.shape}; give one a sample")
        largest = len(self.owners) - 1  # of numbers without a gap; counting larger ones would take any memory
        if self.owners.min() < 0 or self.owners.max() > largest or not np.bincount(self.owners).all():
            raise self._error("owners must be numbered 0, 1, 2, ... without a gap")

    def _check_test_owners(self) -> None:
        if self.test_owners is None:
            return
        count = 0 if self.test_inputs is None else len(self.test_inputs)
        if self.owners is None or self.test_owners.shape != (count,):
            shape = self.test_owners.shape
            raise self._error(f"{count} test samples but test owners of shape {shape}; give one a sample, with owners")
        largest = self.num_owners + count - 1
        in_range = count and self.test_owners.min() >= 0 and self.test_owners.max() <= largest
        if not in_range or not np.bincount(self.test_owners, minlength=self.num_owners)[self.num_owners :].all():
            raise self._error("test owners must be numbered as the owners, and new ones after them without a gap")

    def _check_last_values(self) -> None:
        if not self.last_values:
            return
        places = np.array(self.last_values)
        if not self.has_numbers or len(places) != self.num_outputs:
            raise self._error(f"{len(places)} last values; give one for each number that is forecast")
        if places.min() < 0 or places.max() >= np.prod(self.sample_shape):
            raise self._error(f"a last value lies outside the samples {self.sample_shape}")

    def _error(self, text: str) -> DataError:
        return DataError(f"data set {self.name}: {text}")
