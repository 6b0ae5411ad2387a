"""Testing a model: every sample counts, or every position of it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from hpcfsl.models import models
from hpcfsl.models.split import split
from hpcfsl.training.evaluation import evaluate


def test_every_position_counts() -> None:
    module = models.parse({"name": "gru-lm", "hidden": 5}).build((9,), 7)
    model = split(module, "gru", (9,), target_shape=(9,), vocabulary=7)
    weights, generator = model.initial_weights(3), np.random.default_rng(0)
    inputs, targets = (torch.from_numpy(generator.integers(7, size=(4, 9))) for _ in range(2))
    logits = model.forward(model.layout.unflatten(weights), inputs).numpy()
    correct, loss = 0, 0.0
    for sample in range(4):
        for place in range(9):
            row, target = logits[sample, place].astype(np.float64), int(targets[sample, place])
            correct += int(row.argmax() == target)
            loss += math.log(np.exp(row).sum()) - row[target]
    found = evaluate(model, weights, inputs, targets)
    assert found[0] == correct > 0
    assert math.isclose(found[1], loss, rel_tol=1e-6)


def test_every_sample_counts() -> None:
    model = split(nn.Sequential(nn.Linear(2, 2)), "none", (2,))
    inputs, weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    found = evaluate(model, weights, inputs, torch.tensor([0, 1, 1]))
    assert found[0] == 2
    assert math.isclose(found[1], 2 * math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3)), rel_tol=1e-6)
