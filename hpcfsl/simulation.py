"""The loop over rounds: start or continue, run, record, commit, stop.

Layer 4. Everything here is collective and decided by root where it must be decided (when to commit, when to stop), so
that all ranks do the same thing in the same order.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.agreement import Machine, check_drift, check_finite, compare_machines, require_same_job
from hpcfsl.config import Config, changed_settings, result_settings
from hpcfsl.data.dataset import Dataset
from hpcfsl.errors import RunFolderError, UserError
from hpcfsl.evaluation import evaluate_round
from hpcfsl.group import SummedGroup
from hpcfsl.parallel.communicator import AgreedError, Communicator, agree
from hpcfsl.parallel.failure_record import record_failure
from hpcfsl.parallel.heartbeat import clear_beats
from hpcfsl.parallel.scratch import scratch_folder
from hpcfsl.provenance import provenance
from hpcfsl.recording import event_row, rank_row, record_round
from hpcfsl.round import Outcome, run_round
from hpcfsl.rows import join_rows, merge_rows
from hpcfsl.state import State, describe_non_finite, initial_state, restore_state, state_arrays, vector_lots
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.checkpoint import Checkpoint, LoadedCheckpoint, discard_uncommitted, latest_checkpoint
from hpcfsl.trace.folder import RunFolder, Status, write_atomic
from hpcfsl.trace.record import RoundRecord
from hpcfsl.trace.schema import METRICS, POPULATIONS
from hpcfsl.trace.writer import TraceWriter
from hpcfsl.training.executors import describe
from hpcfsl.world import World, build_world

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a listener is told after each round, on root.

    Attributes:
        round: The round that is done.
        rounds: Rounds in all.
        row: The round's row of the trace, column name to value, and metrics of the global test set as `test_<metric>`.
    """

    round: int
    rounds: int
    row: dict[str, float]


Listener = Callable[[Progress], None]


def simulate(
    config: Config,
    folder: RunFolder,
    communicator: Communicator,
    *,
    dataset: Dataset | None = None,
    module: torch.nn.Module | None = None,
    listener: Listener | None = None,
    watch: Stopwatch | None = None,
) -> Status:
    """Collective. Run a simulation, or continue it where its folder left off; return how it ended.

    Args:
        config: All settings.
        folder: The run folder.
        communicator: The ranks.
        dataset: Replaces the configured source.
        module: Replaces the configured model.
        listener: Told of every round, on root.
        watch: Times phases; made here if not given.

    Raises:
        UserError: On every rank, where data, settings or the folder do not allow the run.
        DriftError: A rank's model is not root's.
    """
    watch = watch or Stopwatch(config.run.deadline_seconds)
    require_same_job(config, communicator)
    with contextlib.ExitStack() as held:
        agree(communicator, lambda: _hold(folder, communicator, held))
        watch.holds_folder = True
        # Root alone reads and checks the files: a thousand ranks would read every committed byte a thousand times.
        loaded = agree(communicator, lambda: _load(config, folder) if communicator.rank == 0 else None)
        loaded = communicator.broadcast(loaded)
        if loaded is not None and communicator.rank == 0:
            for text in loaded.warnings:
                print(f"hpcfsl: warning: {text}", file=sys.stderr)
        if loaded is not None and loaded.checkpoint.next_round >= config.run.rounds:
            agree(communicator, lambda: _set_status(folder, communicator, "finished"))
            return "finished"
        watch.enter("build")
        world = build_world(config, communicator, dataset=dataset, module=module)
        if communicator.rank == 0:
            for text in world.warnings:
                print(f"hpcfsl: warning: {text}", file=sys.stderr)
        agree(communicator, lambda: _prepare(config, folder, communicator, loaded))
        watch.enter("other")
        run = RoundLoop(world, folder, loaded, watch, listener)
        status = run.until_done()
        watch.enter("end")
        agree(communicator, lambda: _set_status(folder, communicator, status))
        return status


class RoundLoop:
    """One start of a run: its state, its trace, its cadence. The run folder is held and prepared by the caller."""

    def __init__(
        self,
        world: World,
        folder: RunFolder,
        loaded: LoadedCheckpoint | None,
        watch: Stopwatch,
        listener: Listener | None,
    ) -> None:
        self._world, self._folder, self._watch, self._listener = world, folder, watch, listener
        self._scratch = scratch_folder(folder.path)
        self._root = world.communicator.rank == 0
        self._next, self._state = agree(world.communicator, lambda: _start(world, folder, loaded, self._scratch))
        self._segment_start, self._committed_at = self._next, time.monotonic()
        machine = compare_machines(world, loaded)
        self._writer = _make_writer(world, folder, machine)
        start = f"{world.communicator.size} ranks, executor {describe(world.executor)}"
        self._events = [event_row(self._next, "start", start)]
        warnings = [*(loaded.warnings if loaded else ()), *world.warnings, *machine.warnings]
        warnings += world.config.global_aggregation.warnings
        self._events += [event_row(self._next, "warning", text) for text in warnings]
        self._ranks = world.communicator.gather_root(rank_row(world, self._next))

    def until_done(self) -> Status:
        """Collective. Run rounds until all are done or somebody asks to stop; commit; return the status."""
        with _stop_signals() as asked:
            while self._next < self._world.config.run.rounds:
                self.one_round()
                commit, stop = self._decide(asked.is_set())
                if commit or stop:
                    self.commit()
                if stop and self._next < self._world.config.run.rounds:
                    return "resumable"
        return "finished"

    def one_round(self) -> None:
        """Collective. Run the next round, test the model, record."""
        self._watch.round = self._next
        started = time.perf_counter()
        self._state, outcome = run_round(
            self._world, self._state, self._next, self._watch, self._record_clients, self._scratch
        )
        with self._watch.phase("evaluate"):
            evaluation = evaluate_round(self._world, self._state.weights, self._next, self._state.vectors)
        with self._watch.phase("record"):
            check_finite(self._world, self._state)
            check_drift(self._world, self._state, self._next)
            self._record_updates(outcome)
            record = record_round(
                self._world,
                self._state,
                outcome,
                evaluation,
                timings=self._watch.take(),
                seconds=time.perf_counter() - started,
            )
            if record is not None:
                self._tell(record)
        self._next += 1

    def _record_clients(self, group: SummedGroup) -> None:
        """Record the uploads of a group's clients while they are held."""
        settings = self._world.config.trace
        if settings.updates == "client" and self._next % settings.every == 0:
            for client, upload in zip(group.scored.first.clients, group.scored.uploads, strict=True):
                self._writer.add_update(round=self._next, client=int(client), vector=upload.cpu().numpy())

    def _record_updates(self, outcome: Outcome) -> None:
        settings = self._world.config.trace
        if settings.updates == "none" or outcome.round % settings.every:
            return
        if self._root and outcome.update is not None:
            self._writer.add_update(round=outcome.round, vector=outcome.update.numpy())
        if settings.updates in ("group", "client"):
            for group in outcome.groups:
                if group.update is not None:
                    vector = group.update.cpu().numpy()
                    self._writer.add_update(round=outcome.round, group=group.scored.group, vector=vector)

    def _tell(self, record: RoundRecord) -> None:
        """Hand the record to the trace, the progress file and the listener (root)."""
        tables = dict(record.tables)
        if self._ranks:
            tables["ranks"] = merge_rows(self._ranks, "rank")
            self._ranks = []
        if self._events:
            tables["events"] = join_rows(self._events)
            self._events = []
        self._writer.add_round(RoundRecord(round=record.round, tables=tables))
        row = {name: values[0].item() for name, values in tables["rounds"].items()} | _test_metrics(tables["metrics"])
        self._folder.add_progress(json.dumps({name: _finite(value) for name, value in row.items()}))
        if self._listener is not None:
            self._listener(Progress(round=record.round, rounds=self._world.config.run.rounds, row=row))

    def _decide(self, asked: bool) -> tuple[bool, bool]:
        """Collective. Return whether to commit now and whether to stop; root decides for all."""
        run = self._world.config.run
        stop = any(self._world.communicator.gather_all(asked or (self._root and self._folder.stop.exists())))
        late = time.monotonic() - self._committed_at > run.checkpoint_seconds
        due = self._next % run.checkpoint_rounds == 0 or self._next == run.rounds
        return self._world.communicator.broadcast((late or due, stop))

    def commit(self) -> None:
        """Collective. Make all rounds so far durable: trace and checkpoint.

        Raises:
            AgreedError: Some rank could not write. The run has then failed: queued again, it would fail again.
        """
        with self._watch.phase("record", called="commit"):
            try:
                self._writer.commit(
                    Checkpoint(
                        next_round=self._next,
                        weights=self._state.weights.cpu().numpy(),
                        arrays=state_arrays(self._state),
                        config_text=self._world.config.to_toml(),
                        segment_start=self._segment_start,
                    ),
                    clients=self._state.clients.arrays(),
                    vectors=vector_lots(self._state),
                )
            except AgreedError as error:
                if self._root:
                    record_failure(self._folder, 0, self._watch, kind="RunFolderError", text=str(error))
                raise
        self._segment_start, self._committed_at = self._next, time.monotonic()


def _hold(folder: RunFolder, communicator: Communicator, held: contextlib.ExitStack) -> None:
    """Lock the folder for as long as `held` is open (root)."""
    if communicator.rank == 0:
        folder.create()
        held.enter_context(folder.lock())
        clear_beats(folder.path)


def _set_status(folder: RunFolder, communicator: Communicator, status: Status) -> None:
    """Write the status (root); a start that was cut off between its last commit and here left another one."""
    if communicator.rank == 0:
        folder.set_status(status)


def _load(config: Config, folder: RunFolder) -> LoadedCheckpoint | None:
    """Return where the run left off.

    Raises:
        RunFolderError: It was started with other settings, or no checkpoint can be used.
    """
    loaded = latest_checkpoint(folder)
    if loaded is None:
        return None
    changed = changed_settings(loaded.header.texts.result_settings, result_settings(config))
    if changed:
        raise RunFolderError(
            f"{folder.path}: was started with other values of {', '.join(changed)}; use those, or another --out"
        )
    return loaded


def _prepare(config: Config, folder: RunFolder, communicator: Communicator, loaded: LoadedCheckpoint | None) -> None:
    if communicator.rank != 0:
        return
    discard_uncommitted(folder, loaded)
    folder.stop.unlink(missing_ok=True)
    write_atomic(folder.config, config.to_toml().encode())
    folder.set_status("running")


def _make_writer(world: World, folder: RunFolder, machine: Machine) -> TraceWriter:
    config = world.config
    return TraceWriter(
        folder=folder,
        communicator=world.communicator,
        config_text=config.to_toml(),
        provenance=json.dumps(
            {
                **provenance(),
                "executor": describe(world.executor),
                "cut": world.model.cut,
                "machine": machine.process,
            }
        ),
        result_settings=result_settings(config),
        component_names=config.score.component_names,
        buffer_bytes=int(config.trace.buffer_mib * MIB),
        update_dtype=config.trace.dtype,
    )


def _start(world: World, folder: RunFolder, loaded: LoadedCheckpoint | None, scratch: Path) -> tuple[int, State]:
    """Return the next round and the state before it."""
    if loaded is None:
        state = initial_state(world, scratch)
        problem = describe_non_finite(world, state)
        if problem is not None:
            raise UserError(f"{problem}, before any training: start it from finite numbers")
        return 0, state
    return loaded.checkpoint.next_round, restore_state(world, folder, loaded, scratch)


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGUSR2 set: finish the round, commit, leave."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may install handlers
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _test_metrics(rows: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    of_test = rows["population"] == POPULATIONS.index("test")
    pairs = zip(rows["metric"][of_test], rows["value"][of_test], strict=True)
    return {f"test_{METRICS[metric]}": float(value) for metric, value in pairs}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
