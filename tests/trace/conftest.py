"""A small made-up run: rows and updates are a function of (round, row), so any rank and any start writes the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.trace.checkpoint import Checkpoint, discard_uncommitted, latest_checkpoint
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.record import RoundRecord
from hpcfsl.trace.schema import TABLES
from hpcfsl.trace.writer import TraceWriter

COMPONENTS = ("distance", "norm", "direction")
CONFIG = '[run]\nseed = 7\nname = "trial é"\n'
CLIENTS, GROUPS, PARAMETERS = 6, 2, 37
ROWS = {"participation": CLIENTS, "group_rounds": GROUPS, "rounds": 1, "evaluation": 3, "clients": CLIENTS}


def column_values(table: str, column: Any, round: int, rows: int) -> np.ndarray:
    seed = [round, *f"{table}.{column.name}".encode()]
    rng = np.random.default_rng(seed if column.deterministic else None)
    if column.is_text:
        return np.array([f"{column.name} {round}"] * rows, dtype=object)
    shape = column.shape(rows, len(COMPONENTS))
    if column.is_float:
        values = rng.normal(size=shape)
        values[rng.random(shape) < 0.05] = np.nan
        return values
    return rng.integers(0, len(column.flags) or 100, size=shape)


def make_record(round: int, tables: tuple[str, ...] = tuple(TABLES)) -> RoundRecord:
    """Return rows for all tables; clients only in round 0, as each is seen for the first time there."""
    made: dict[str, dict[str, np.ndarray]] = {}
    for table in tables:
        rows = 0 if table == "clients" and round > 0 else ROWS.get(table, 2)
        made[table] = {column.name: column_values(table, column, round, rows) for column in TABLES[table]}
        order = np.random.default_rng().permutation(rows)  # the writer sorts
        for name in {"client", "group", "rank", "metric"} & set(made[table]):
            if not (table == "participation" and name == "group"):
                made[table][name] = np.arange(rows)
        for name in {"round", "first_round"} & set(made[table]):
            made[table][name] = np.full(rows, round)
        made[table] = {name: values[order] for name, values in made[table].items()}
    return RoundRecord(round=round, tables=made)


def make_update(round: int, group: int) -> np.ndarray:
    return np.random.default_rng([round, group + 1]).normal(size=PARAMETERS).astype(np.float32)


def make_weights(round: int) -> np.ndarray:
    return np.random.default_rng([99, round]).normal(size=PARAMETERS).astype(np.float32)


def make_checkpoint(start: int, end: int) -> Checkpoint:
    arrays = {"momentum/7": np.arange(end, dtype=np.float32), "count": np.int64(end)}
    return Checkpoint(next_round=end, weights=make_weights(end), arrays=arrays, config_text=CONFIG, segment_start=start)


def make_writer(path: Path, communicator: Any = None, **changes: Any) -> TraceWriter:
    settings: dict[str, Any] = {
        "folder": RunFolder(path),
        "communicator": communicator or SerialCommunicator(),
        "config_text": CONFIG,
        "provenance": '{"host": "here"}',
        "result_settings": '{"seed":7}',
        "component_names": COMPONENTS,
        "buffer_bytes": 400,
        "update_dtype": "float32",
    }
    return TraceWriter(**{**settings, **changes})


def write_run(
    path: Path,
    edges: tuple[int, ...] = (2, 5),
    communicator: Any = None,
    change: Callable[[RoundRecord], RoundRecord] = lambda record: record,
    update: Callable[[int, int, np.ndarray], np.ndarray] = lambda round, group, vector: vector,
    **changes: Any,
) -> Path:
    """Continue the run in `path` to the last of `edges`, as a simulation would: a commit at each edge."""
    folder = RunFolder(path)
    folder.create()
    communicator = communicator or SerialCommunicator()
    loaded = latest_checkpoint(folder)
    communicator.barrier()
    if communicator.rank == 0:
        discard_uncommitted(folder, loaded)
    communicator.barrier()
    start = loaded.checkpoint.next_round if loaded else 0
    writer = make_writer(path, communicator, **changes)
    for end in edges:
        if end <= start:
            continue
        for round in range(start, end):
            for group in range(-1, GROUPS):
                if (group + 1) % communicator.size == communicator.rank:
                    vector = update(round, group, make_update(round, group))
                    writer.add_update(round=round, group=None if group < 0 else group, vector=vector)
            writer.add_round(change(make_record(round)))
        writer.commit(make_checkpoint(start, end))
        start = end
    return path


class ThreadCommunicator:
    """Ranks as threads of this process, for what is collective in the trace."""

    def __init__(self, rank: int, shared: _Shared) -> None:
        self.rank, self.local_rank, self.size = rank, rank, len(shared.values)
        self._shared = shared

    def barrier(self) -> None:
        self._shared.barrier.wait()

    def gather_all(self, value: Any) -> list[Any]:
        self._shared.values[self.rank] = value
        self.barrier()
        found = list(self._shared.values)
        self.barrier()
        return found


class _Shared:
    def __init__(self, size: int) -> None:
        self.values: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=20)


def run_ranks(size: int, action: Callable[[Any], None]) -> list[BaseException | None]:
    """Call `action` with each rank's communicator, all at once; return what each raised."""
    shared, raised = _Shared(size), [None] * size

    def body(rank: int) -> None:
        try:
            action(ThreadCommunicator(rank, shared))
        except Exception as error:
            raised[rank] = error

    threads = [threading.Thread(target=body, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


class Maker:
    """The functions above, for tests: pytest's importlib mode gives test files no common module to import."""

    record = staticmethod(make_record)
    update = staticmethod(make_update)
    weights = staticmethod(make_weights)
    checkpoint = staticmethod(make_checkpoint)
    writer = staticmethod(make_writer)
    run = staticmethod(write_run)
    ranks = staticmethod(run_ranks)
    components = COMPONENTS
    config = CONFIG
    clients = CLIENTS
    groups = GROUPS
    parameters = PARAMETERS


@pytest.fixture(scope="session")
def maker() -> type[Maker]:
    return Maker


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of 5 rounds in two segments that no test changes."""
    return write_run(tmp_path_factory.mktemp("finished"))
