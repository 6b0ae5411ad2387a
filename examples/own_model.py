"""A PyTorch module and arrays of one's own, trained under the method while a fifth of the clients attack.

Two interleaved half moons, 40 clients, 8 of which train on flipped labels. Takes a few seconds:

    python examples/own_model.py [RUN]            or            mpirun -n 2 python examples/own_model.py RUN
"""

from __future__ import annotations

import sys

import numpy as np
from torch import nn

import hpcfsl


class Moons(nn.Module):
    """Two layers; the model is cut after `encoder`, whose output is what a client sends."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh())
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        """Return the logits of both moons."""
        return self.head(self.encoder(x))


angle = np.random.default_rng(0).uniform(0, np.pi, 4000)
moon = np.arange(4000) % 2
points = np.stack([np.cos(angle) + moon, np.sin(angle)], axis=1) * np.where(moon, -1, 1)[:, None]

run = hpcfsl.run(
    {
        "run": {"rounds": 20},
        "partition": {"rule": "iid", "clients": 40},
        "model": {"cut": "encoder"},
        "threat": {"attack": "label-flip", "clients": 8},
    },
    out=sys.argv[1] if len(sys.argv) > 1 else "runs/own-model",
    model=Moons(),
    inputs=points.astype(np.float32),
    targets=moon,
)
print(f"accuracy {100 * run.table('rounds')['test_accuracy'][-1]:.1f} %, status {run.status}")
