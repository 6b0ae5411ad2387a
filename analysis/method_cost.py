"""What the method costs apart from training: time by phase, for made updates that an executor hands out at once.

One line a preset: milliseconds a client in each phase of a round, the least of the rounds, of everything but the made
training, recording included; `hardened` and `literal` with perturbation. `--profile` adds the slowest functions.
Takes seconds for the digits network and a minute for the CIFAR network:

    python analysis/method_cost.py [--model digits-cnn] [--clients 100] [--groups 4] [--rounds 5] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import pstats
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hpcfsl.config import Config, resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.simulation import RoundLoop
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.updates import FirstUpdates, LocalData, empty_updates, first_updates
from hpcfsl.world import build_world

SHAPES = {"mlp": (1, 8, 8), "digits-cnn": (1, 8, 8), "lenet5": (1, 28, 28), "cifar-cnn": (3, 32, 32)}
SAMPLES = 20


class MadeTraining:
    """Hands out updates of a common signal and noise, of norm about 1, and adds up the time that took."""

    name, detail, whole_groups = "made", "", True

    def __init__(self, size: int, settings: TrainingSettings) -> None:
        generator = torch.Generator().manual_seed(0)
        signal, noise = torch.randn(size, generator=generator), torch.randn(16, size, generator=generator)
        self._rows, self._settings, self.seconds = (signal + noise) / (2 * size) ** 0.5, settings, 0.0

    def train(self, start: torch.Tensor, data: LocalData, *, seed: int, round: int) -> FirstUpdates:
        """Return copies of the made updates, each of a length of its own."""
        began = time.perf_counter()
        updates = empty_updates(len(data.clients), self._rows.shape[1])
        for update, client in zip(updates, data.clients.tolist(), strict=True):
            torch.mul(self._rows[client % 16], 1 + 1e-3 * (client % 97), out=update)
        ones = np.ones(len(data.clients))
        self.seconds += time.perf_counter() - began
        return first_updates(data, updates, ones, ones, self._settings)


class Tally(Stopwatch):
    """A stopwatch that remembers what the round took from it."""

    def take(self) -> dict[str, float]:
        """Return the seconds by phase since the last call, and start again."""
        self.taken = super().take()
        return self.taken


def configure(preset: str, given: argparse.Namespace) -> Config:
    """Return the settings of a run of a preset, never tested and committed after the last round."""
    data = {
        "source": "synthetic",
        "shape": list(SHAPES[given.model]),
        "samples": SAMPLES * given.clients,
        "classes": 10,
    }
    perturbation = {"rule": "none"} if preset == "averaging" else {"rule": "gaussian", "noise_multiplier": 1e-4}
    return resolve(
        {
            "run": {"preset": preset, "rounds": given.rounds, "checkpoint_rounds": given.rounds + 1},
            "data": data,
            "model": {"name": given.model},
            "training": {"batch_size": 1},
            "partition": {"rule": "iid", "clients": given.clients},
            "groups": {"number": given.groups},
            "perturbation": perturbation,
            "evaluation": {"every": given.rounds + 1},
        }
    )


def measure(preset: str, given: argparse.Namespace) -> tuple[int, dict[str, float]]:
    """Return the parameters of the model and the least milliseconds a client by phase and in all."""
    config = configure(preset, given)
    world = build_world(config, SerialCommunicator())
    made = MadeTraining(world.model.layout.size, config.training)
    watch, found = Tally(), []
    with tempfile.TemporaryDirectory() as path:
        loop = RoundLoop(dataclasses.replace(world, executor=made), RunFolder(Path(path)), None, watch, None)
        for _ in range(given.rounds):
            made.seconds = 0.0
            began = time.perf_counter()
            loop.one_round()
            total = time.perf_counter() - began - made.seconds
            # The time of recording is what is left on the watch when the round is over.
            phases = {**watch.taken, **watch.seconds}
            found.append({**phases, "train": phases["train"] - made.seconds, "all": total})
    best = min(found, key=lambda each: each["all"])
    return world.model.layout.size, {phase: 1e3 * seconds / given.clients for phase, seconds in best.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SHAPES, default="digits-cnn", help="whose updates are made")
    parser.add_argument("--clients", type=int, default=100, help="clients of a round")
    parser.add_argument("--groups", type=int, default=4, help="groups they are divided into")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the fastest counts")
    parser.add_argument("--preset", nargs="+", default=["averaging", "literal", "hardened"], help="presets to time")
    parser.add_argument("--profile", action="store_true", help="print the functions that take longest")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    phases = ("train", "score", "gather", "aggregate", "record", "all")
    print(f"| preset | parameters | {' | '.join(phases)} |\n|---|---|{'---|' * len(phases)}")
    for preset in given.preset:
        with cProfile.Profile() as profile:
            if not given.profile:
                profile.disable()
            size, found = measure(preset, given)
        print(f"| {preset} | {size} | {' | '.join(f'{found.get(phase, 0.0):.4f}' for phase in phases)} |")
        if given.profile:
            pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
