"""What the method costs apart from training: milliseconds a client by phase, for made updates of a model.

One line a preset, recording included, `hardened` with perturbation; the least of the rounds, without making updates.

    python analysis/method_cost.py [--model digits-cnn] [--clients 100] [--groups 4]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.simulation import RoundLoop
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder
from hpcfsl.training.updates import FirstUpdates, LocalData, empty_updates, first_updates
from hpcfsl.world import build_world

SHAPES = {"mlp": [1, 8, 8], "digits-cnn": [1, 8, 8], "lenet5": [1, 28, 28], "cifar-cnn": [3, 32, 32]}
NOISE = {"averaging": {"rule": "none"}, "hardened": {"rule": "gaussian", "noise_multiplier": 1e-4}}
PHASES, ROUNDS = ("train", "score", "gather", "aggregate", "record"), 5


def measure(config: dict[str, Any]) -> list[float]:
    """Return the least seconds of a round in each phase."""
    world, watch, found, spent = build_world(resolve(config), SerialCommunicator()), Stopwatch(), [], []
    noise = torch.randn(17, world.model.layout.size, generator=torch.Generator().manual_seed(0))
    made = (noise[:16] + noise[16]) / noise[16].norm()

    def hand_out(executor: Any, start: torch.Tensor, data: LocalData, **_: int) -> FirstUpdates:
        began, losses = time.perf_counter(), np.ones(len(data.clients))
        updates = empty_updates(len(losses), made.shape[1])
        torch.index_select(made, 0, torch.from_numpy(data.clients % 16), out=updates)
        spent.append(time.perf_counter() - began)
        return first_updates(data, updates, losses, losses, world.config.training)

    with tempfile.TemporaryDirectory() as path, patch("hpcfsl.uploads.train_group", hand_out):
        loop = RoundLoop(world, RunFolder(Path(path)), None, watch, None)
        watch.take = dict  # type: ignore[method-assign]  # what is recorded leaves the watch alone
        for _ in range(ROUNDS):
            watch.seconds = dict.fromkeys(PHASES, 0.0)
            spent.clear()
            loop.one_round()
            found.append([watch.seconds[phase] - sum(spent) * (phase == "train") for phase in PHASES])
    return [min(column) for column in zip(*found, strict=True)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="digits-cnn", help="whose updates are made")
    for name, default in (("clients", 100), ("groups", 4)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{name} of a round")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"| preset | {' | '.join(PHASES)} | sum |\n|---|{'---|' * (len(PHASES) + 1)}")
    config: dict[str, Any] = {
        "data": {"source": "synthetic", "shape": SHAPES[given.model], "samples": 20 * given.clients},
        "partition": {"rule": "iid", "clients": given.clients},
        "evaluation": {"every": ROUNDS + 1},
    }
    for preset, noise in NOISE.items():
        config |= {"run": {"preset": preset}, "perturbation": noise}
        found = measure(config | {"model": {"name": given.model}, "groups": {"number": given.groups}})
        print(f"| {preset} | {' | '.join(f'{1e3 * each / given.clients:.4f}' for each in [*found, sum(found)])} |")


if __name__ == "__main__":
    main()
