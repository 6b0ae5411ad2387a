"""What testing some samples adds up to, and the metrics of the sums.

Classes have accuracy, macro-F1 and loss, and sequences perplexity too. Numbers have the mean absolute error (MAE), the
root of the mean squared error (RMSE), both in the data's own units, the coefficient of determination (R2) and the loss.

Macro-F1 is the mean over classes of 2 * hits / (predicted + actual), over those that are predicted or actual at least
once (van Rijsbergen, "Information retrieval", 1979, chapter 7). R2 is 1 less the squared error over the squared
distance to the mean of these samples, the mean over outputs; an output without spread has none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, float]
"""Metrics by the names of the trace."""

_OF_NUMBERS = ("mae", "rmse", "r2")
_NO_SPREAD = 1e-10
"""Part of the squares of equal numbers that rounding may leave of their spread."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model says about a batch of samples, and what is true.

    Attributes:
        outputs: Predicted classes, int64 [samples] or [samples, positions]; or numbers, float64 [samples, outputs].
        targets: What is true, shaped alike, int64 or float64. Numbers are those that training sees: near 0, so that
            their squares lose no digits.
        losses: Loss of each sample, the sum over its positions or the mean over its numbers, float64 [samples].
    """

    outputs: NDArray[Any]
    targets: NDArray[Any]
    losses: NDArray[np.float64]

    @property
    def has_numbers(self) -> bool:
        """Whether these are numbers, not classes."""
        return self.outputs.dtype.kind == "f"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Sums over samples; those of more samples are the sums of these.

    Attributes:
        count: Samples, or all their positions.
        loss: Their losses.
        counts: How often each class was predicted, was true, and was both, int64 [3, classes]; [3, 0] for numbers.
        sums: Absolute errors, squared errors, true numbers and their squares, float64 [4, outputs]; [4, 0] for classes.
    """

    count: int
    loss: float
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]


def join_predictions(parts: Iterable[Predictions]) -> Predictions:
    """Return what was said about several batches as if they had been one."""
    found = list(parts)
    return Predictions(
        outputs=np.concatenate([part.outputs for part in found]),
        targets=np.concatenate([part.targets for part in found]),
        losses=np.concatenate([part.losses for part in found]),
    )


def tally(found: Predictions, num_classes: int) -> Tally:
    """Return the sums over a batch; `num_classes` is 0 for numbers."""
    loss, outputs, targets = float(found.losses.sum()), found.outputs, found.targets
    if not found.has_numbers:
        counts = count_classes(outputs.reshape(-1), targets.reshape(-1), num_classes)
        return Tally(count=targets.size, loss=loss, counts=counts, sums=np.zeros((4, 0)))
    sums = np.stack([column.sum(axis=0) for column in _number_columns(found)])
    return Tally(count=len(targets), loss=loss, counts=np.zeros((3, 0), np.int64), sums=sums)


def count_classes(predicted: NDArray[np.int64], actual: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Return how often each class was predicted, was true, and was both, int64 [3, classes]."""
    places = np.concatenate([predicted, actual + num_classes, actual[predicted == actual] + 2 * num_classes])
    return np.bincount(places, minlength=3 * num_classes).reshape(3, num_classes)


def add_up(parts: Iterable[Tally]) -> Tally:
    """Return the sum of tallies, added in order; there is at least one."""
    total, *rest = parts
    for part in rest:
        total = Tally(
            count=total.count + part.count,
            loss=total.loss + part.loss,
            counts=total.counts + part.counts,
            sums=total.sums + part.sums,
        )
    return total


def measure(total: Tally, *, scale: NDArray[np.float64] | None, sequences: bool) -> Metrics:
    """Return the metrics of a tally by name; NaN for what it does not define.

    Args:
        total: The sums, of one sample at least.
        scale: Units of the data in one unit of the numbers that training sees, float64 [outputs]; None for classes.
        sequences: Whether classes are those of positions.
    """
    loss = total.loss / total.count
    if scale is not None:
        values = number_metrics(total.sums[:, None], np.array([total.count]), scale)
        return {**{name: float(values[name][0]) for name in _OF_NUMBERS}, "loss": loss}
    predicted, actual, hits = total.counts
    seen = predicted + actual > 0
    f1 = 2 * hits[seen] / (predicted + actual)[seen]
    metrics = {"accuracy": int(hits.sum()) / total.count, "macro-f1": float(f1.mean()), "loss": loss}
    return {**metrics, "perplexity": perplexity(loss)} if sequences else metrics


def perplexity(loss: float) -> float:
    """Return e to the mean loss of a position, infinite where that overflows."""
    return math.exp(loss) if loss < 700 else math.inf


def number_metrics(
    sums: NDArray[np.float64], counts: NDArray[np.int64], scale: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return MAE, RMSE and R2 of each of several tallies, float64 [tallies].

    Args:
        sums: Of each, float64 [4, tallies, outputs].
        counts: Samples of each, int64 [tallies].
        scale: As in `measure`.
    """
    absolute, squared, total, squares = sums / counts[:, None]
    spread = squares - total**2
    known = spread > _NO_SPREAD * np.maximum(squares, 1e-300)
    r2 = 1 - np.divide(squared, spread, out=np.zeros_like(spread), where=known)
    outputs = known.sum(axis=1)
    r2 = np.where(outputs > 0, (r2 * known).sum(axis=1) / np.maximum(outputs, 1), np.nan)
    return {"mae": (absolute * scale).mean(axis=1), "rmse": np.sqrt((squared * scale**2).mean(axis=1)), "r2": r2}


def measure_clients(
    found: Predictions, clients: NDArray[np.int64], counts: NDArray[np.int64], scale: NDArray[np.float64] | None
) -> dict[str, NDArray[Any]]:
    """Return metrics of the clients of a batch, [clients] each, by the columns of the trace's table `evaluation`.

    Args:
        found: Of their samples, client after client.
        clients: Their ids, int64 [clients].
        counts: Samples of each, at least one, int64 [clients].
        scale: As in `measure`.
    """
    starts, none = np.cumsum(counts) - counts, np.full(len(clients), np.nan)
    samples = counts if found.has_numbers else counts * found.targets[0].size
    rows: dict[str, NDArray[Any]] = {
        "client": clients,
        "num_samples": samples,
        "loss": np.add.reduceat(found.losses, starts) / samples,
        "num_correct": np.zeros(len(clients), np.int64),
        **dict.fromkeys(("accuracy", "macro_f1", *_OF_NUMBERS), none),
    }
    if scale is not None:
        sums = np.stack([np.add.reduceat(column, starts) for column in _number_columns(found)])
        return {**rows, **number_metrics(sums, counts, scale)}
    owner = np.repeat(np.arange(len(clients)), samples)
    predicted, actual = found.outputs.reshape(-1), found.targets.reshape(-1)
    correct = np.bincount(owner[predicted == actual], minlength=len(clients))
    macro_f1 = macro_f1_of(predicted, actual, owner, len(clients))
    return {**rows, "num_correct": correct, "accuracy": correct / samples, "macro_f1": macro_f1}


def macro_f1_of(
    predicted: NDArray[np.int64], actual: NDArray[np.int64], owner: NDArray[np.int64], clients: int
) -> NDArray[np.float64]:
    """Return each client's macro-F1, float64 [clients]; ten classes cost as much as a hundred thousand.

    Args:
        predicted: Classes, int64 [n].
        actual: Classes, int64 [n].
        owner: Whose they are, 0 .. clients - 1, int64 [n]; everybody has some.
        clients: Number of clients.
    """
    width = int(max(predicted.max(), actual.max())) + 1
    keys, places = np.unique(np.concatenate([predicted, actual]) + width * np.tile(owner, 2), return_inverse=True)
    hits = np.bincount(places[: len(actual)][predicted == actual], minlength=len(keys))
    f1, whose = 2 * hits / np.bincount(places), keys // width
    return np.bincount(whose, weights=f1, minlength=clients) / np.bincount(whose, minlength=clients)


def _number_columns(found: Predictions) -> tuple[NDArray[np.float64], ...]:
    """Return what a tally of numbers sums, float64 [samples, outputs] each."""
    errors = found.outputs - found.targets
    return np.abs(errors), errors**2, found.targets, found.targets**2
