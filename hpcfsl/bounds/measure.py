"""Testing one model: on the global test set, and on clients' own held-out samples."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.training.evaluation import evaluate
from hpcfsl.world import World

Measures = dict[tuple[str, str], float]
"""Population and metric to value."""


def measure(world: World, weights: torch.Tensor, clients: NDArray[np.int64]) -> Measures:
    """Return accuracy and mean loss, on the global test set and, as the mean over clients, on their held-out samples.

    Args:
        world: The run.
        weights: The model, float32 [params].
        clients: The clients, int64.
    """
    step, total = world.config.evaluation.shard, world.feed.num_test
    shards = [world.feed.test_batch(start, min(start + step, total)) for start in range(0, total, step)]
    parts = [evaluate(world.model, weights, *map(torch.from_numpy, shard)) for shard in shards]
    counted = sum(targets.size for _, targets in shards)
    found: Measures = {
        ("test", "accuracy"): sum(correct for correct, _ in parts) / counted,
        ("test", "loss"): math.fsum(loss for _, loss in parts) / counted,
    }
    return found
