"""When the stages of a round were over on the last rank, from the phases that every rank logged.

Layer 4, numpy only. The seconds that a rank spends in a phase (table `timings` of a trace) say little by themselves,
because a fast rank's phase includes its waiting. What counts is when the last rank was done: the difference from one
stage's end to the next is what the stage added to the round. Ranks of one node share a clock, so logs can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hpcfsl.stopwatch import Stopwatch

Entry = tuple[str, float, float]
"""A phase with its start and end, seconds of the node's clock."""


class LoggingStopwatch(Stopwatch):
    """A stopwatch that also keeps each phase's start and end, in `log`."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Entry] = []

    @contextmanager
    def phase(self, name: str, *, called: str | None = None) -> Iterator[None]:
        """Time what happens inside as phase `name`."""
        started = time.perf_counter()
        with super().phase(name, called=called):
            yield
        self.log.append((name, started, time.perf_counter()))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One round as it was.

    Attributes:
        stages: Seconds that each stage added, in order.
        group_train: Seconds of each of root's groups' training, in the order they ran.
        group_score: Seconds of scoring them.
        group_sum: Seconds of each of root's groups' exclusion and sum.
    """

    stages: dict[str, float]
    group_train: tuple[float, ...]
    group_score: tuple[float, ...]
    group_sum: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Seconds of the round."""
        return sum(self.stages.values())


def split_rounds(log: Sequence[Entry]) -> list[list[Entry]]:
    """Return a rank's log round by round: a round ends with its last `record` (the commit is one too)."""
    rounds: list[list[Entry]] = [[]]
    for entry in log:
        if rounds[-1] and rounds[-1][-1][0] == "record" and entry[0] != "record":
            rounds.append([])
        rounds[-1].append(entry)
    return rounds


def measure_round(before: Sequence[Sequence[Entry]], logs: Sequence[Sequence[Entry]], *, pooled: bool) -> Measured:
    """Return what a round was.

    Args:
        before: The round before on every rank.
        logs: The round on every rank, root first.
        pooled: Whether scores were gathered before sums.
    """
    ends = [_stage_ends(log, pooled) for log in logs]
    last = max(entry[2] for log in before for entry in log)
    stages: dict[str, float] = {}
    for stage in ("train", *(("pool", "sum") if pooled else ()), "gather", "aggregate", "evaluate", "record"):
        end = max([last, *(found[stage] for found in ends if stage in found)])
        stages[stage], last = end - last, end
    return Measured(
        stages=stages,
        group_train=_durations(logs[0], lambda before, phase: phase == "train"),
        group_score=_durations(logs[0], lambda before, phase: phase == "score" and before == "train"),
        group_sum=_durations(logs[0], lambda before, phase: phase == "score" and before != "train"),
    )


def _stage_ends(log: Sequence[Entry], pooled: bool) -> dict[str, float]:
    names = ["train", "pool", "sum", "gather"] if pooled else ["train", "gather"]
    ends: dict[str, float] = {}
    for phase, _, end in log:
        while names and phase == "gather" and names[0] not in ("pool", "gather"):
            names.pop(0)
        stage = names[0] if names and phase in ("train", "score", "gather") else phase
        ends[stage] = end
        if phase == "gather" and names:
            names.pop(0)
    return ends


def _durations(log: Sequence[Entry], chosen: Callable[[str, str], bool]) -> tuple[float, ...]:
    """Return the seconds of the phases that `chosen` picks by the phase before and their own name."""
    before = [name for name, _, _ in log[:-1]]
    return tuple(end - start for last, (name, start, end) in zip(["", *before], log, strict=True) if chosen(last, name))
