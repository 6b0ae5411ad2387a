"""Series cut into windows: some steps of the past, and what is to be told from them.

The target of a window is the class of its last step, or the next steps of some columns (a forecast, as numbers). The
end of each series is its test set: a window lies wholly before the split or wholly after it, so that no test value is
ever seen in training. Windows are [steps, columns]; a forecast is [steps ahead * columns], all columns of the first
step ahead, then all of the second. The naive forecast beside it, persistence, repeats the last known value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.files import number_owners, number_test_owners
from hpcfsl.errors import ConfigError

_PIECE_ROWS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Some steps of one client, in order of time and without a gap.

    Attributes:
        owner: The client's name.
        values: All columns, float64 [steps, columns].
        labels: Class of each step, int64 [steps]; None for a forecast.
    """

    owner: str
    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None = None


class Windowed(Source):
    """What sources of windows have in common; a subclass says which columns are known and which are forecast."""

    window: int = Field(50, ge=1, le=1_000_000)
    """Steps of the past in a sample."""

    stride: int = Field(1, ge=1, le=1_000_000)
    """Steps from the start of a window to that of the next."""

    test_share: float = Field(0.2, gt=0.0, lt=1.0)
    """Share of each series, its end, that the test set is cut from."""

    def cut(self, name: str, runs: Sequence[Run], *, known: list[int], ahead: list[int], horizon: int) -> Dataset:
        """Return the windows of all runs.

        Args:
            name: What messages call the data.
            runs: The series.
            known: Columns that are inputs.
            ahead: Columns to forecast; empty where windows have classes.
            horizon: Steps to forecast; 0 where windows have classes.

        Raises:
            ConfigError: No series is long enough, or the windows do not fit into this machine's memory.
        """
        spans = [_starts(len(run.values), self.window + horizon, self.stride, self.test_share) for run in runs]
        counts = [sum(len(each[part]) for each in spans) for part in (0, 1)]
        self._check(counts, horizon, 4 * (self.window * len(known) + horizon * len(ahead)))
        train, test = (self._fill(runs, [each[part] for each in spans], known, ahead, horizon) for part in (0, 1))
        labels = [run.labels.max() for run in runs if run.labels is not None and len(run.labels)]
        last = (self.window - 1) * len(known)
        columns = [known.index(column) for column in ahead] if set(ahead) <= set(known) else []
        return Dataset(
            name=name,
            inputs=train[0],
            targets=train[1],
            owners=number_owners(train[2]),
            num_classes=0 if horizon else int(max(labels)) + 1,
            test_inputs=test[0],
            test_targets=test[1],
            test_owners=number_test_owners(train[2], test[2]),
            last_values=tuple(last + column for _ in range(horizon) for column in columns),
        )

    def _check(self, counts: list[int], horizon: int, window_bytes: int) -> None:
        if not all(counts):
            fix = f"no series is long enough for windows in its {'test part' if counts[0] else 'training part'}"
            lower = f"lower it or data.horizon = {horizon}" if horizon > self.window else "lower it"
            raise ConfigError("data.window", self.window, f"{fix}; {lower}, or change data.test_share")
        size, (room, whose) = sum(counts) * window_bytes, arena.room()
        if size > room:
            fix = f"all windows take {size / 1e9:.0f} GB and {whose} {room / 1e9:.0f}; raise it"
            raise ConfigError("data.stride", self.stride, fix)

    def _fill(
        self,
        runs: Sequence[Run],
        starts: list[NDArray[np.int64]],
        known: list[int],
        ahead: list[int],
        horizon: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | NDArray[np.int64], list[str]]:
        """Return the windows that begin at `starts` of each run, their targets and whose they are."""
        count, place = sum(map(len, starts)), 0
        inputs = arena.empty((count, self.window, len(known)), np.float32)
        forecasts = arena.empty((count, horizon * len(ahead)), np.float32)
        classes = np.empty(count, np.int64)
        for run, begin in zip(runs, starts, strict=True):
            inside, after = run.values[:, known], run.values[:, ahead]
            for first in range(0, len(begin), _PIECE_ROWS):
                piece = begin[first : first + _PIECE_ROWS]
                at = slice(place, place + len(piece))
                with np.errstate(over="ignore"):  # the data set names the row that is not finite
                    inputs[at] = _windows(inside, piece, self.window)
                    if horizon:
                        following = _windows(after, piece + self.window, horizon)
                        forecasts[at] = following.reshape(len(piece), -1)
                if run.labels is not None:
                    classes[at] = run.labels[piece + self.window - 1]
                place += len(piece)
        owners = [run.owner for run, begin in zip(runs, starts, strict=True) for _ in begin]
        return inputs, forecasts if horizon else classes, owners


def _starts(length: int, span: int, stride: int, test_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first steps of windows of `span` steps that lie before the split, and of those that lie after it."""
    split = length - round(length * test_share)
    return np.arange(0, split - span + 1, stride), np.arange(split, length - span + 1, stride)


def _windows(values: NDArray[np.float64], starts: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
    """Return [starts, steps, columns] of values [all steps, columns]."""
    if not len(starts):
        return np.empty((0, steps, values.shape[1]))
    found: NDArray[np.float64] = sliding_window_view(values, steps, axis=0)[starts].transpose(0, 2, 1)
    return found
