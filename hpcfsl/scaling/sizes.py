"""The bytes that a run will write: trace, recorded updates, checkpoints.

Layer 4. The counts of rows and vectors follow from the settings; what HDF5 adds and what compression saves is found by
giving the trace's own writer stand-in rows: real counts and ids, random numbers where a run has measured ones.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.config import result_settings
from hpcfsl.evaluation import evaluated_clients
from hpcfsl.parallel.clients import COLUMNS
from hpcfsl.provenance import provenance
from hpcfsl.round import Plan, plan_round
from hpcfsl.scaling.workload import recorded_vectors
from hpcfsl.state import vector_widths
from hpcfsl.stopwatch import PHASES
from hpcfsl.trace.checkpoint import KEEP, Checkpoint, write_checkpoint
from hpcfsl.trace.column import Column
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.record import RunTexts
from hpcfsl.trace.schema import TABLES, row_bytes
from hpcfsl.trace.segment import segment_bytes
from hpcfsl.trace.shards import write_shard
from hpcfsl.trace.updates import UpdateBuffer, UpdateKey
from hpcfsl.world import World

MIB = 2**20
Rows = dict[str, NDArray[Any]]
# Columns of which every row has a value of its own, which hardly compresses. The others repeat.
_VARIED = {
    "credit_score", "components", "influence", "share", "raw_scaling", "scaling", "loss_information", "weight",
    "coefficient", "loss_first", "loss_last", "norm", "uploaded_norm", "update_hash", "sketch", "distance", "mass",
    "accuracy", "loss", "macro_f1", "value", "seconds", "update_norm", "model_hash", "train_loss", "test_accuracy",
    "test_loss",
}  # fmt: skip
_NUMBERED = {"rounds": "round", "group_rounds": "group", "evaluation": "client", "clients": "client"}
_PROGRESS_BYTES = 700  # a line of progress.jsonl
_MANIFEST_BYTES = 190  # a file's entry in a checkpoint
_KINDS = ("global", "group", "client")  # of recorded updates; each setting takes in those before it
_MOST_VECTORS, _MOST_PARAMS = 300, 2048  # of a stand-in file of updates
_METRICS_OF_A_TEST = 4  # of sequences and numbers; other classes have one less
_MOST_ROWS = 20_000  # stand-in rows that are really compressed; beyond, size grows with the rows


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes that a run leaves in its folder.

    Attributes:
        trace: All segments.
        updates: All files of recorded updates.
        checkpoints: The states that are kept, and the progress file.
        raw_rows: The rows of one round before compression, which root holds until they are committed.
    """

    trace: float
    updates: float
    checkpoints: float
    raw_rows: float

    @property
    def total(self) -> float:
        """Bytes of the folder."""
        return self.trace + self.updates + self.checkpoints


def predict_sizes(world: World, ranks: int) -> Sizes:
    """Return what a run on `ranks` ranks will write."""
    return _Sizing(world, ranks).sizes()


def expected_seen(population: int, participants: int, rounds: int) -> float:
    """Return how many clients have taken part after so many rounds, as expected of independent draws."""
    return population * (1.0 - (1.0 - participants / population) ** rounds)


class _Sizing:
    def __init__(self, world: World, ranks: int) -> None:
        self._world, self._ranks, self._config = world, ranks, world.config
        self._plan: Plan = plan_round(world, 0)
        self._clients = np.sort(np.concatenate(self._plan.groups))
        self._samples = world.population.train_counts(self._clients)
        self._rounds = self._config.run.rounds
        self._block = min(self._config.run.checkpoint_rounds, self._rounds)
        self._segments = ceil(self._rounds / self._block)

    def sizes(self) -> Sizes:
        updates, files = self._updates()
        params, kept = self._world.model.layout.size, min(KEEP, self._segments)
        vectors = 2 + len(self._config.server_optimizer.first_moments())
        of_client = 32.0 + 4.0 * sum(vector_widths(self._world).values())
        state = 4.0 * vectors * params + of_client * self._seen(self._rounds)
        state += _MANIFEST_BYTES * (files + self._segments)
        empty = self._empty_checkpoint() + self._ranks * _shard_overhead()
        checkpoints = kept * (empty + state) + _PROGRESS_BYTES * self._rounds
        components = len(self._config.score.component_names)
        counts = self._row_counts(1)
        raw = float(sum(row_bytes(table, components) * count for table, count in counts.items()))
        return Sizes(trace=self._trace(), updates=updates, checkpoints=checkpoints, raw_rows=raw)

    def _trace(self) -> float:
        """Return the bytes of all segments, from one that is really built, or from two parts of one if it is long."""
        whole = float(self._segment(self._block, new=True))
        if self._segments > 1:
            later = float(self._segment(self._block, new=False))
            return whole + later * (self._rounds - self._block) / self._block
        return whole

    def _segment(self, rounds: int, *, new: bool) -> float:
        each = max(1, len(self._clients) + self._row_counts(1).get("evaluation", 0))
        most = max(2, _MOST_ROWS // each)
        if rounds <= most and each <= _MOST_ROWS:
            return self._built(rounds, new=new, share=1.0)
        part = min(1.0, _MOST_ROWS / (most * each))
        large, small = self._built(most, new=new, share=part), self._built(most // 2, new=new, share=part)
        per_round = (large - small) / (most - most // 2)
        return small + per_round * (rounds / part - most // 2)

    def _built(self, rounds: int, *, new: bool, share: float) -> float:
        counts = self._row_counts(rounds)
        counts["clients"] = int(self._seen(rounds) if new else self._seen(self._rounds) - self._seen(self._block))
        chosen = max(1, round(len(self._clients) * share))
        numbers = np.random.default_rng(0)
        tables = {}
        for table, columns in TABLES.items():
            rows = chosen * rounds if table == "participation" else max(0, round(counts[table] * share))
            tables[table] = {column.name: self._stand_in(column, rows, numbers) for column in columns}
            tables[table] |= self._known(table, rows, chosen)
        return float(len(segment_bytes(tables, first_round=0, end_round=rounds, texts=self._texts)))

    def _stand_in(self, column: Column, rows: int, numbers: np.random.Generator) -> NDArray[Any]:
        shape = column.shape(rows, len(self._config.score.component_names))
        if column.name not in _VARIED:
            return np.zeros(shape, column.numpy)
        if column.numpy.kind == "u":
            return numbers.integers(0, 2**63, shape, dtype=np.uint64).astype(column.numpy)
        if column.axis == "projection":  # of either sign and any size, which compresses least
            return numbers.normal(0.0, 1.0, shape).astype(column.numpy)
        return np.abs(numbers.normal(1.0, 0.3, shape)).astype(column.numpy)

    def _known(self, table: str, rows: int, chosen: int) -> Rows:
        """Return the columns whose values are settled before the run."""
        if table != "participation":
            return {_NUMBERED[table]: _numbers(table, rows)} if table in _NUMBERED else {}
        times = rows // chosen
        samples = np.tile(self._samples[:chosen], times)
        wire = self._world.wire_bytes(samples)
        known: Rows = {
            "round": np.repeat(np.arange(times), chosen),
            "client": np.tile(self._clients[:chosen], times),
            "group": np.random.default_rng(1).integers(0, len(self._plan.groups), rows),
            "num_samples": samples,
            "num_steps": -(-samples // self._config.training.batch_size),
            "weight_before": samples / self._world.mean_samples,
            "bytes_smashed_up": wire.smashed_up,
            "bytes_gradients_down": wire.gradients_down,
            "bytes_labels_up": wire.labels_up,
        }
        return {name: values.astype(_dtype(table, name)) for name, values in known.items()}

    def _row_counts(self, rounds: int) -> dict[str, int]:
        evaluation = self._config.evaluation
        tested, measured = 0, 1 + rounds // evaluation.every
        if evaluation.clients_every:
            tested = len(evaluated_clients(self._world)) * rounds // evaluation.clients_every
            measured += rounds // evaluation.clients_every
        if self._world.feed.held_out is not None:
            tested += self._world.feed.held_out.num_clients * rounds // evaluation.every
            measured += rounds // evaluation.every
        return {
            "participation": len(self._clients) * rounds,
            "group_rounds": len(self._plan.groups) * rounds,
            "rounds": rounds,
            "evaluation": tested,
            "metrics": _METRICS_OF_A_TEST * measured,
            "clients": 0,
            "timings": (len(PHASES) - 1) * self._ranks * rounds,
            "ranks": self._ranks,
            "events": 1,
        }

    def _seen(self, rounds: int) -> float:
        return expected_seen(self._world.population.num_clients, len(self._clients), rounds)

    @cached_property
    def _texts(self) -> RunTexts:
        world = {"executor": self._world.executor.name, "cut": self._world.model.cut}
        return RunTexts(
            config_text=self._config.to_toml(),
            provenance=json.dumps({**provenance(), **world}),
            result_settings=result_settings(self._config),
            component_names=self._config.score.component_names,
        )

    def _updates(self) -> tuple[float, int]:
        """Return the bytes of all update files, and how many files."""
        settings, groups = self._config.trace, len(self._plan.groups)
        vectors = recorded_vectors(self._world, len(self._clients), groups)
        rounds = ceil(self._rounds / settings.every)
        if not vectors:
            return 0.0, 0
        vector = self._world.model.layout.size * np.dtype(settings.dtype).itemsize
        buffer = settings.buffer_mib * MIB
        writers = 1 if settings.updates == "global" else min(self._ranks, groups)
        last = (self._rounds - 1) // settings.every * settings.every
        segments = last // max(settings.every, self._block) + 1  # those in which a round is recorded
        files = max(writers * segments, ceil(vectors * rounds * vector / buffer))
        together = max(1.0, min(vectors / writers, buffer / vector))  # vectors of one round in one file
        parts = vectors * rounds / together
        kinds = _KINDS[: _KINDS.index(settings.updates) + 1]
        file, part = _update_overheads(ceil(together), self._world.model.layout.size, settings.dtype, kinds)
        return float(vectors * rounds * vector + files * file + parts * part), files

    def _empty_checkpoint(self) -> float:
        """Return the bytes of a checkpoint without a model."""
        empty = Checkpoint(
            next_round=0,
            weights=np.zeros(1, np.float32),
            arrays={"last_update": np.zeros(1)},
            config_text=self._config.to_toml(),
            segment_start=0,
        )
        with tempfile.TemporaryDirectory() as path:
            folder = RunFolder(path)
            folder.create()
            return float(write_checkpoint(folder, empty, self._texts, []).stat().st_size)


def _shard_overhead() -> float:
    """Return the bytes of a rank's part of a checkpoint without the clients in it."""
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(path)
        folder.create()
        one = {name: np.zeros(1) for name in ("clients", *COLUMNS)}
        return float(write_shard(folder, one, round=0, rank=0, ranks=1).bytes - 8 * len(one))


def _numbers(table: str, rows: int) -> NDArray[Any]:
    return np.arange(rows).astype(_dtype(table, _NUMBERED[table]))


def _dtype(table: str, name: str) -> np.dtype[Any]:
    return next(column.numpy for column in TABLES[table] if column.name == name)


def _update_overheads(vectors: int, params: int, dtype: str, kinds: tuple[str, ...]) -> tuple[float, float]:
    """Return what HDF5 adds to a file of updates and to `vectors` vectors of one round in it, from two small files."""
    built, size = min(vectors, _MOST_VECTORS), min(params, _MOST_PARAMS)
    one, two = (_update_file(rounds, built, size, dtype, kinds) for rounds in (1, 2))
    payload = built * size * np.dtype(dtype).itemsize
    return float(2 * one - two), float(two - one - payload) * vectors / built


def _update_file(rounds: int, vectors: int, params: int, dtype: str, kinds: tuple[str, ...]) -> int:
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        folder.create()
        buffer = UpdateBuffer(folder=folder, rank=0, start="0" * 8, buffer_bytes=2**30, dtype=dtype)
        for round in range(rounds):
            for number in range(vectors):
                kind = kinds[min(number, len(kinds) - 1)]  # every kind once, and more of the last
                buffer.add(UpdateKey(round, kind, number), np.zeros(params, np.float32))
        return buffer.finish()[0].bytes
