"""What one can predict without a model: the line that any model has to beat.

Layer 4. From the training samples alone, the same whoever computes it. Classes: the commonest one is predicted
(accuracy, macro-F1), and each with its frequency among the training samples (loss, and the perplexity of sequences),
every class counted once more than it occurs, so that a new one in the test set has a finite loss. Numbers: their
training mean; or for forecasts, where the data says which value of a sample is the last known one, that value again
(the persistence forecast of Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition, 5.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.data.feed import Feed
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.metrics import Metrics, Predictions, Tally, add_up, measure, tally
from hpcfsl.training.settings import LossName
from hpcfsl.world import World

_CHUNK_ROWS = 4096


def naive_metrics(world: World) -> Metrics:
    """Return the metrics of the naive prediction on the global test set."""
    feed = world.feed
    total = _of_numbers(feed, world.config.training.loss) if feed.dataset.has_numbers else _of_classes(feed)
    return measure(total, scale=feed.target_scale, sequences=not feed.dataset.has_numbers and bool(feed.target_shape))


def _of_classes(feed: Feed) -> Tally:
    trained = sum_counts((feed.targets(rows) for rows in _chunks(feed.population.train_pool())), feed.num_classes)
    tested = sum_counts((feed.test_targets(start, stop) for start, stop in _ranges(feed.num_test)), feed.num_classes)
    commonest, count = int(trained.argmax()), int(tested.sum())
    predicted, hits = np.zeros_like(tested), np.zeros_like(tested)
    predicted[commonest], hits[commonest] = count, tested[commonest]
    shares = (trained + 1) / (trained.sum() + len(trained))
    loss = -float((tested * np.log(shares)).sum())
    return Tally(count=count, loss=loss, counts=np.stack([predicted, tested, hits]), sums=np.zeros((4, 0)))


def sum_counts(parts: Iterator[NDArray[Any]], num_classes: int) -> NDArray[np.int64]:
    """Return how often each class occurs in several arrays, int64 [classes]."""
    counts = np.zeros(num_classes, np.int64)
    for part in parts:
        counts += np.bincount(part.reshape(-1), minlength=num_classes)
    return counts


def _of_numbers(feed: Feed, loss: LossName) -> Tally:
    mean = feed.training_mean()
    parts = []
    for start, stop in _ranges(feed.num_test):
        targets = feed.test_targets(start, stop)
        again = feed.last_values(start, stop)
        outputs = np.broadcast_to(mean, targets.shape) if again is None else again
        losses = sample_losses(torch.from_numpy(outputs.astype(np.float32)), torch.from_numpy(targets), loss)
        found = Predictions(
            outputs=outputs.astype(np.float64), targets=targets.astype(np.float64), losses=losses.double().numpy()
        )
        parts.append(tally(found, 0))
    return add_up(parts)


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start:stop] for start, stop in _ranges(len(rows)))


def _ranges(total: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _CHUNK_ROWS, total)) for start in range(0, total, _CHUNK_ROWS))
