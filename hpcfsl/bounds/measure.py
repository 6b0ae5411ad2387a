"""Testing the models that parties trained alone, as a run tests the global model.

The metrics of several models are averaged: over the models on the global test set, and weighted by the clients' own
test samples on those, which for accuracy, loss and mean absolute error is the metric of all these samples together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.evaluation import measure_held_out, measure_own, measure_test_set
from hpcfsl.training.metrics import Metrics, perplexity
from hpcfsl.world import World

TEST, CLIENTS, HELD_OUT = "test", "clients", "held-out-clients"
Measures = dict[str, Metrics]
"""Metrics by population, each by its name in the trace."""


def measure_model(world: World, weights: torch.Tensor, clients: NDArray[np.int64]) -> Measures:
    """Return the metrics of a model on the global test set, on the clients' own test samples and on held-out clients.

    Args:
        world: The run.
        weights: The model, float32 [params].
        clients: Whose own test samples, int64 [clients], ascending.
    """
    found = {TEST: measure_test_set(world, weights), CLIENTS: measure_own(world, weights, clients)[0]}
    if world.feed.held_out is not None:
        found[HELD_OUT] = measure_held_out(world, weights)[0]
    return {population: metrics for population, metrics in found.items() if metrics}


def average(parts: Sequence[Measures], own_samples: NDArray[np.int64]) -> Measures:
    """Return the mean metrics of several models; perplexity is that of the mean loss.

    Args:
        parts: Of each model; with nothing for `clients` where its client has no test samples.
        own_samples: Test samples of each model's client, int64 [models].
    """
    averaged: Measures = {}
    for population in dict.fromkeys(name for part in parts for name in part):
        places = [place for place, part in enumerate(parts) if population in part]
        weights = own_samples[places] if population == CLIENTS else np.ones(len(places))
        names = parts[places[0]][population]
        means = {
            name: float(np.average([parts[place][population][name] for place in places], weights=weights))
            for name in names
        }
        if "perplexity" in means:
            means["perplexity"] = perplexity(means["loss"])
        averaged[population] = means
    return averaged
