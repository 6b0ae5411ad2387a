"""`hpcfsl run` in which one rank does something wrong: `failing.py KIND:RANK:PHASE:ROUND run CONFIG --out RUN`.

It happens as the rank enters a phase of a round (`-` before the first), whichever phase that is: the stopwatch is told
of all of them. Phase `load` is before the ranks have said anything to each other, `tell` after they have said the last.
Kinds that change the model wait for phase `evaluate`, where it is at hand. `version`, `settings` and `mix` make the
rank another one from the start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from typing import Any

import torch

import hpcfsl.agreement as agreement
import hpcfsl.launch as launch
import hpcfsl.simulation as simulation
from hpcfsl.cli import main
from hpcfsl.stopwatch import Stopwatch

kind, rank, phase, round = sys.argv.pop(1).split(":")
mine = int(rank) == int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK", "0")))
MODEL_KINDS = ("nan", "flip")


def fail() -> None:
    """Do it."""
    if kind == "raise":
        raise RuntimeError("the planned fault\nin two lines")
    if kind == "exit":
        sys.exit(0)
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "memory":
        torch.empty(2**50)
    if kind == "gpu-memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if kind == "sleep":
        time.sleep(100)
    if kind == "slow":  # each group, in time
        time.sleep(3)
    if kind == "stop":
        time.sleep(2.5)  # so that it has been heard of
        os.kill(os.getpid(), signal.SIGSTOP)
    if kind == "hold":
        time.sleep(2.5)
        ctypes.PyDLL(None).sleep(100)  # a library that does not let go of the interpreter


def spoil(weights: torch.Tensor) -> None:
    """Change the model."""
    if kind == "nan":
        weights[3] = torch.nan
    if kind == "flip":
        weights.view(torch.int32)[5] ^= 1


class Failing(Stopwatch):
    """A stopwatch that fails as the phase begins."""

    def enter(self, name: str) -> None:
        """Name the phase, and fail if it is the one."""
        super().enter(name)
        now = "-" if self.round is None else str(self.round)
        if mine and kind not in MODEL_KINDS and (name, now) == (phase, round):
            fail()


def failing(function: Any) -> Any:
    """Return a function that fails before it does anything."""

    def body(*arguments: Any, **named: Any) -> Any:
        fail()
        return function(*arguments, **named)

    return body


evaluate, described = simulation.evaluate_round, agreement.describe_process


def evaluate_round(world: Any, weights: torch.Tensor, now: int, *rest: Any) -> Any:
    """Test the model, after it was spoilt."""
    if mine and (phase, round) == ("evaluate", str(now)):
        spoil(weights)
    return evaluate(world, weights, now, *rest)


if mine and kind == "version":
    agreement.version = lambda _: "0.0.1"  # type: ignore[assignment]
if mine and kind == "settings":
    sys.argv += ["--set", "run.seed=7", "--set", "run.hold_mib=3"]
if mine and kind == "mix":
    agreement.describe_process = lambda *_: {**described(*_), "processor": "Slow 1000", "numpy": "0.1"}
launch.Stopwatch = Failing  # type: ignore[misc]
simulation.evaluate_round = evaluate_round
if mine and phase == "load":
    launch.load = failing(launch.load)
if mine and phase == "tell":
    launch.print_result = failing(launch.print_result)
main()
