"""`hpcfsl calibrate`: measures the executors on a model of this machine and writes the table that `auto` reads.

Every candidate trains the same group, the largest of the first round, on one rank and in turn; what counts is its
median over the turns. Call it once for a machine and a model, on an idle machine, before the run: `run` measures
nothing itself.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hpcfsl.bench.request import Request, configuration
from hpcfsl.bench.workloads import SPEED_WORKLOADS
from hpcfsl.config import Config, load
from hpcfsl.errors import ConfigError
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.round import plan_round
from hpcfsl.state import initial_state
from hpcfsl.trace.folder import write_atomic
from hpcfsl.training.executors import Executor, choose, make_candidate, train_group
from hpcfsl.training.native.executor import NativeExecutor
from hpcfsl.training.table import Candidate, Entry, key_of, merge_entries, read_table, write_table
from hpcfsl.training.updates import LocalData
from hpcfsl.world import World, build_world

CHUNKS = (4, 16, 64)
"""Clients that the stacked executor trains together, to choose from."""

Say = Callable[[str], None]


def calibrate(config: Path | None, out: Path, *, turns: int, say: Say) -> tuple[Entry, ...]:
    """Measure the model of a configuration, or those of the benchmarks, and write what was found into a table.

    Args:
        config: The configuration file; None for the workloads of `hpcfsl bench`.
        out: The table; entries for other models and devices that it has already are kept.
        turns: How often each candidate is measured.
        say: Told of every candidate.

    Returns:
        The new entries.

    Raises:
        UserError: The configuration or an old table cannot be used.
    """
    old = read_table(out) if out.exists() else ()
    found = tuple(measure_entry(each, turns=turns, say=say) for each in _configurations(config))
    write_atomic(out, write_table(merge_entries(old, found)).encode())
    return found


def measure_entry(config: Config, *, turns: int, say: Say) -> Entry:
    """Return the ranking of all candidates for a configuration's model, batch and device."""
    world = build_world(config, SerialCommunicator())
    data, start = _largest_group(world), initial_state(world).weights
    key = key_of(world.model, config.training, world.device)
    say(f"{key.model}, batches of {key.batch_size}, on {key.device}:")
    trainers = dict(_trainers(world, data, start))
    seconds = _take_turns(list(trainers.values()), turns)
    speeds = {one: len(data.clients) / second for one, second in zip(trainers, seconds, strict=True)}
    for choice, speed in speeds.items():
        say(f"  {_describe(choice)}: {speed:,.1f} clients/s")
    ranking = [
        replace(choice, clients_per_second=float(f"{speed:.3g}"))
        for choice, speed in sorted(speeds.items(), key=lambda item: -item[1])
    ]
    return Entry(key=key, ranking=tuple(ranking))


def _describe(choice: Candidate) -> str:
    chunk = f" {choice.chunk_clients}" if choice.executor == "stacked" else ""
    return f"{choice.executor}{chunk}{'' if choice.share_wide else ', a copy of wide layers for each client'}"


def _configurations(path: Path | None) -> list[Config]:
    if path is not None:
        return [load(path)]
    return [configuration(Request(workload=name)) for name in SPEED_WORKLOADS]


def _largest_group(world: World) -> LocalData:
    members = max(plan_round(world, 0).groups, key=len)
    rows = world.population.train_rows_of(members)
    return LocalData(
        clients=members,
        counts=world.population.train_counts(members),
        inputs=torch.from_numpy(world.feed.inputs(rows)),
        targets=torch.from_numpy(np.ascontiguousarray(world.feed.targets(rows))),
    )


def _trainers(world: World, data: LocalData, start: torch.Tensor) -> Iterator[tuple[Candidate, Callable[[], object]]]:
    """Yield every candidate that can train the model here, and what trains the group."""
    for choice in _candidates(world, len(data.clients)):
        executor = _executor(world, choice, int(data.counts.max()))
        if executor is None:
            continue
        yield choice, _trainer(executor, choice, data, start)
        if isinstance(executor, NativeExecutor) and executor.shares:
            copying = replace(choice, share_wide=False)
            other = _executor(world, copying, int(data.counts.max()))
            assert other is not None
            yield copying, _trainer(other, copying, data, start)


def _candidates(world: World, group: int) -> list[Candidate]:
    plain = world.config.training.chunk_clients
    # Beyond the first chunk that holds the whole group all are the same.
    chunks = [chunk for chunk, smaller in zip(CHUNKS, (0, *CHUNKS), strict=False) if smaller < group]
    names = [("native", plain), *(("stacked", chunk) for chunk in chunks), ("one-by-one", plain)]
    return [Candidate(executor=name, chunk_clients=chunk) for name, chunk in names]


def _executor(world: World, choice: Candidate, most_samples: int) -> Executor | None:
    """Return the executor of a candidate, or None where it cannot train this model with these settings here."""
    settings = world.config.training.replace(executor=choice.executor, chunk_clients=choice.chunk_clients)
    try:
        choose(world.model, settings, world.device)
    except ConfigError:
        return None
    executor = make_candidate(choice, world.model, settings, world.device, most_samples=most_samples)
    return executor if executor.name == choice.executor else None


def _trainer(executor: Executor, choice: Candidate, data: LocalData, start: torch.Tensor) -> Callable[[], object]:
    def train() -> object:
        return train_group(executor, start, data, chunk=choice.chunk_clients, seed=0, round=0).updates.cpu()

    return train


def _take_turns(actions: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Return the median seconds of each action; the first turn of each is a warm-up."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(turns + 1):
        for place, action in enumerate(actions):
            started = time.perf_counter()
            action()
            times[place].append(time.perf_counter() - started)
    return [statistics.median(seconds[1:]) for seconds in times]
