"""What the peers' scripts share: the models, the generated clients, the clock, and what is printed.

Imported as a top-level module by scripts beside it; needs torch and numpy alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import OrderedDict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

CHARACTERS, POSITIONS = 90, 80
SHAPES = {"mlp": (64,), "lenet": (1, 28, 28), "cifar": (3, 32, 32)}


class Recurrence(nn.Module):
    """A GRU that returns what it puts out at every position, [batch, positions, hidden]."""

    def __init__(self, inward: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inward, hidden, batch_first=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the hidden states."""
        outputs: torch.Tensor = self.gru(inputs)[0]
        return outputs


def build_model(name: str) -> nn.Module:
    """Return a new module of a workload: "mlp", "lenet", "cifar" or "gru"."""
    layers: dict[str, list[nn.Module]] = {
        "mlp": [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)],
        "lenet": [
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        ],
        "cifar": [
            *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
            *(nn.Flatten(), nn.Linear(12544, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
        ],
        "gru": [nn.Embedding(CHARACTERS, 8), Recurrence(8, 128), nn.Linear(128, CHARACTERS)],
    }
    return nn.Sequential(OrderedDict((f"layer{place}", layer) for place, layer in enumerate(layers[name])))


def make_clients(request: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return generated inputs [clients, samples, ...] and targets [clients, samples] (per position for text)."""
    count, generator = (request["population"], request["samples"]), np.random.default_rng(0)
    if request["workload"] == "gru":
        text = generator.integers(0, CHARACTERS, (*count, POSITIONS + 1))
        return np.ascontiguousarray(text[..., :-1]), np.ascontiguousarray(text[..., 1:])
    inputs = generator.standard_normal((*count, *SHAPES[request["workload"]]), dtype=np.float32)
    return inputs, generator.integers(0, 10, count)


def mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the batch's mean cross-entropy, over positions too where there are any."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())


class Clock:
    """Marks the end of each round, and says when enough rounds have been timed."""

    def __init__(self, request: dict[str, Any], *, root: bool) -> None:
        self._warmup, self._seconds, self._rounds = request["warmup"], request["seconds"], request["rounds"]
        self._done, self._root = 0, root
        self.marks: list[float] = []

    def round_done(self) -> bool:
        """Note that a round is over; return whether that is enough (root's word counts)."""
        self._done += 1
        if self._done < self._warmup:
            return False
        if not self.marks and self._root:
            print(json.dumps({"event": "start"}), flush=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.monotonic())
        return bool(len(self.marks) > self._rounds and self.marks[-1] - self.marks[0] >= self._seconds)


def tell(request: dict[str, Any], marks: list[float], memory: list[int], packages: tuple[str, ...]) -> None:
    """Hand the result to the driver."""
    result = {
        "event": "result",
        "marks": marks,
        "cohort": request["cohort"],
        "peak_memory_bytes": memory,
        "versions": {name: _version(name) for name in ("torch", "numpy", *packages)},
    }
    print(json.dumps(result), flush=True)


def peak_memory_bytes(process: int | str = "self") -> int:
    """Return the largest resident memory that a process has had; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM:")), 0)


def read_request() -> dict[str, Any]:
    """Return the request on the command line, and use as many threads as it says."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    os.environ["OMP_NUM_THREADS"] = str(request["threads"])
    return request


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
