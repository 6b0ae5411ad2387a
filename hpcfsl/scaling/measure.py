"""Measures the design on this machine: one start of each number of ranks, every setting in it.

Layer 4.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.bench.processes import num_cores, rank_command, run_together
from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.scaling.cluster import Cluster, one_node
from hpcfsl.scaling.design import HELD_OUT_RANKS, WARM_ROUNDS, Setting
from hpcfsl.scaling.stages import Measured
from hpcfsl.scaling.workload import Workload, of_world
from hpcfsl.world import build_world

_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One setting on one number of ranks, measured.

    Attributes:
        setting: The setting.
        work: Its counts.
        cluster: Where it ran.
        passes: Its rounds after the warm-up, one pass over the design after the other.
    """

    setting: Setting
    work: Workload
    cluster: Cluster
    passes: tuple[tuple[Measured, ...], ...]

    @property
    def held_out(self) -> bool:
        """Whether the fit must not see it."""
        return self.setting.held_out or self.cluster.ranks in HELD_OUT_RANKS

    @property
    def quietest(self) -> tuple[Measured, ...]:
        """The rounds of the pass that other work on the machine disturbed least."""
        return min(self.passes, key=lambda rounds: median(each.seconds for each in rounds))

    @property
    def stages(self) -> dict[str, float]:
        """Median seconds of each stage over the rounds of the quietest pass."""
        rounds = self.quietest
        return {name: median(each.stages[name] for each in rounds) for name in rounds[0].stages}

    @property
    def seconds(self) -> float:
        """Median seconds of a round over those of the quietest pass."""
        return median(each.seconds for each in self.quietest)

    def group_seconds(self, kind: str) -> NDArray[np.float64]:
        """Return the seconds of root's groups, `group_train` or `group_sum`, medians of the same, float64 [groups]."""
        return np.asarray(np.median([getattr(each, kind) for each in self.quietest], axis=0))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The design, measured.

    Attributes:
        observations: Every setting on every number of ranks.
        network: By number of ranks, seconds of a sum by its bytes, and of gathering an object ("0").
    """

    observations: list[Observation]
    network: dict[int, dict[str, float]]


def measure(
    design: tuple[Setting, ...], ranks: tuple[int, ...], *, passes: int, rounds: int, tell: Callable[[str], None]
) -> Measurement:
    """Return the design measured on each number of ranks of this machine.

    Args:
        design: What to run.
        ranks: Numbers of ranks.
        passes: How often, in turns: a spell of other work then falls on one pass and not on one number of ranks.
        rounds: Timed rounds of every setting in a pass, at least 2.
        tell: Told what is going on.

    Raises:
        UserError: The ranks cannot be started.
    """
    runs: dict[tuple[str, int], list[tuple[Measured, ...]]] = defaultdict(list)
    network: dict[int, dict[str, float]] = {}
    for turn in range(passes):
        for number in ranks:
            chosen = [setting for setting in design if number == 1 or not setting.alone]
            tell(f"pass {turn + 1} of {passes}: {len(chosen)} settings on {number} ranks")
            result = run_settings(chosen, number, rounds=rounds)
            for name, found in result["settings"].items():
                runs[name, number].append(tuple(Measured(**each) for each in found))
            before = network.get(number, result["network"])
            network[number] = {name: min(value, before[name]) for name, value in result["network"].items()}
    works = {setting.name: count(setting) for setting in design}
    observations = [
        Observation(
            setting=setting,
            work=works[setting.name],
            cluster=one_node(number, num_cores()),
            passes=tuple(runs[setting.name, number]),
        )
        for number in ranks
        for setting in design
        if runs[setting.name, number]
    ]
    return Measurement(observations=observations, network=network)


def count(setting: Setting) -> Workload:
    """Return the counts of a round of a setting."""
    work = of_world(build_world(resolve(setting.tree(1_000_000)), SerialCommunicator()), round=WARM_ROUNDS)
    return work if setting.commits else replace(work, written=0.0, commits=0.0)


def run_settings(design: Sequence[Setting], ranks: int, *, rounds: int) -> dict[str, Any]:
    """Run settings on some ranks of this machine; return what `hpcfsl.scaling.ranks` says."""
    names = tuple(setting.name for setting in design)
    with tempfile.TemporaryDirectory(prefix="hpcfsl-") as folder:
        arguments = ("-m", "hpcfsl.scaling.ranks", str(rounds), folder, *names)
        return run_together(f"{ranks} ranks", (rank_command(ranks, arguments),), seconds=_SECONDS).results[0]
