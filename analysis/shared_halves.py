"""Time of training a group with one server half: compiled kernels against torch, client by client and stacked.

Prints one line a model and order of training; all take turns on one core, and the best of some rounds counts. `copies`
is the compiled engine with a copy of the server half for each client (splitfed-v1), a bound on what is possible. Takes
half a minute:

    python analysis/shared_halves.py [--clients 10] [--samples 40] [--batch 8]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from hpcfsl.models import Samples, models
from hpcfsl.models.split import SplitModel, cut_points, split
from hpcfsl.training.native.executor import NativeExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared.compiled import CompiledPass
from hpcfsl.training.shared.loop import LoopPass
from hpcfsl.training.shared.stacked import StackedPass
from hpcfsl.training.shared.step import Pass
from hpcfsl.training.shared.trainer import SharedTrainer
from hpcfsl.training.updates import LocalData

ROUNDS = 5
CPU = torch.device("cpu")
SHAPES: dict[str, Samples] = {
    "lenet5": Samples(shape=(1, 28, 28), num_outputs=10),
    "digits-cnn": Samples(shape=(1, 8, 8), num_outputs=10),
    "speech-cnn1d": Samples(shape=(1, 20, 60), num_outputs=10),
    "speech-gru": Samples(shape=(1, 20, 60), num_outputs=10),
    "gru-lm": Samples(shape=(64,), num_outputs=60, target_shape=(64,), vocabulary=60),
    "mlp": Samples(shape=(20,), num_outputs=5),
}


def built(name: str) -> SplitModel:
    """Return a shipped model at its default cut."""
    samples, settings = SHAPES[name], models.parse({"name": name})
    module = settings.make(samples)
    cut = getattr(settings, "cut", "") or cut_points(module)[0]
    return split(module, cut, samples.shape, target_shape=samples.target_shape, vocabulary=samples.vocabulary)


def made_up(name: str, clients: int, samples: int) -> LocalData:
    """Return random samples of a group."""
    like, drawn, rows = SHAPES[name], torch.Generator().manual_seed(1), clients * samples
    inputs: Tensor
    if like.vocabulary:
        inputs = torch.randint(like.vocabulary, (rows, *like.shape), generator=drawn)
    else:
        inputs = torch.randn(rows, *like.shape, generator=drawn)
    targets = torch.randint(like.num_outputs, (rows, *like.target_shape), generator=drawn)
    return LocalData(clients=np.arange(clients), counts=np.full(clients, samples), inputs=inputs, targets=targets)


def trainers(
    model: SplitModel, settings: TrainingSettings, samples: int, *, in_turn: bool
) -> dict[str, Callable[..., object]]:
    """Return the ways of training a group by their names."""
    compiled = CompiledPass(model, settings, samples)
    passes: list[Pass] = [compiled, LoopPass(model, settings, CPU)]
    if not in_turn:
        passes.append(StackedPass(model, settings, CPU))
    shared = {each.name: SharedTrainer(model, settings, CPU, each, in_turn=in_turn).train for each in passes}
    return {**shared, "copies": NativeExecutor(model, settings, samples).train}


def milliseconds(ways: dict[str, Callable[..., object]], start: Tensor, data: LocalData) -> dict[str, float]:
    """Return the best time of each way over some rounds in turn."""
    best = dict.fromkeys(ways, float("inf"))
    for round in range(ROUNDS):
        for name, train in ways.items():
            begun = time.perf_counter()
            train(start, data, seed=1, round=round)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begun))
    return best


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10, help="clients of the group")
    parser.add_argument("--samples", type=int, default=40, help="training samples of each")
    parser.add_argument("--batch", type=int, default=8, help="samples in a local step")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = TrainingSettings(batch_size=given.batch, learning_rate=0.01)
    print("| model | clients train | compiled, ms | torch, ms | stacked, ms | torch / compiled | compiled / copies |")
    print("|---" * 7 + "|")
    for name in SHAPES:
        model, data = built(name), made_up(name, given.clients, given.samples)
        for in_turn in (False, True):
            ways = trainers(model, settings, given.samples, in_turn=in_turn)
            found = milliseconds(ways, model.initial_weights(0), data)
            ours, torch_alone, stacked = found["native"], found["one-by-one"], found.get("stacked")
            ratio = min(torch_alone, stacked or torch_alone) / ours
            print(
                f"| {name} | {'in turn' if in_turn else 'together'} | {ours:.1f} | {torch_alone:.1f} "
                f"| {'-' if stacked is None else f'{stacked:.1f}'} | {ratio:.1f} "
                f"| {ours / found['copies']:.1f} |"
            )


if __name__ == "__main__":
    main()
