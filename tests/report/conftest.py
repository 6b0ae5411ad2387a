"""Made-up runs of any size, written as a simulation would write them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.trace.checkpoint import Checkpoint
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.reader import Run
from hpcfsl.trace.reader import open as open_run
from hpcfsl.trace.record import RoundRecord
from hpcfsl.trace.schema import PHASES, TABLES
from hpcfsl.trace.writer import TraceWriter

COMPONENTS = ("distance", "norm")
NAN = float("nan")


def fill(table: str, rows: int, **values: Any) -> dict[str, np.ndarray]:
    """Return a table of `rows` rows: the given columns, and missing values for the others."""
    made = {}
    for column in TABLES[table]:
        value = values.pop(column.name, b"" if column.is_text else (NAN if column.is_float else 0))
        value = np.asarray(value, dtype=object if column.is_text else column.numpy)
        made[column.name] = np.broadcast_to(value, column.shape(rows, len(COMPONENTS))).copy()
    assert not values, f"no such columns: {values}"
    return made


def make_round(
    round: int, *, clients: int, attackers: int, groups: int, ranks: int, evaluated: bool, values: dict[str, Any]
) -> RoundRecord:
    """Return a round in which attackers, the first clients, score about 3 and all others about 1; `values` overrule."""
    rng = np.random.default_rng([round, clients])
    attacker = np.arange(clients) < attackers
    score = rng.gamma(20, 0.05, clients) * np.where(attacker, 3, 1)
    group = rng.permutation(clients) % groups
    status = (score > 2).astype(int)
    weight = np.where(status, 0, 1 / score)
    participation = {
        "client": np.arange(clients),
        "group": group,
        "credit_score": score,
        "threshold": 2.0,
        "scaling": np.where(status, NAN, score),
        "weight": np.where(status, NAN, weight),
        "coefficient": weight / clients,
        "status": status,
        "attacker": attacker,
        "bytes_smashed_up": 1000,
        "bytes_gradients_down": 1000,
        "bytes_model_up": 10,
    }
    tables = {
        "participation": fill("participation", clients, round=round, **{**participation, **values}),
        "group_rounds": fill(
            "group_rounds",
            groups,
            round=round,
            group=np.arange(groups),
            num_clients=np.bincount(group, minlength=groups),
            num_attackers=np.bincount(group[attacker], minlength=groups),
            coefficient=1 / groups,
            bytes_across_up=500,
        ),
        "rounds": fill(
            "rounds", 1, round=round, num_participants=clients, num_groups=groups, train_loss=2 / (round + 1)
        ),
        "timings": fill(
            "timings",
            ranks * len(PHASES),
            round=round,
            rank=np.repeat(np.arange(ranks), len(PHASES)),
            phase=np.tile(np.arange(len(PHASES)), ranks),
            seconds=0.01,
        ),
    }
    measured = ("mean", "min", "p10", "median", "max")
    curves = dict(zip([f"client_accuracy_{name}" for name in measured], (0.6, 0.2, 0.4, 0.7, 0.9), strict=True))
    if evaluated:
        known = {"test_accuracy": 1 - 0.9 / (round + 1), "test_loss": 2 / (round + 1), **curves}
        for name, value in known.items():
            tables["rounds"][name][:] = value
    tables["rounds"]["seconds"][:] = 0.07
    if round == 0:
        tables["clients"] = fill("clients", clients, client=np.arange(clients), attacker=attacker)
        text = {"host": b"node<1>", "device": b"cpu"}
        tables["ranks"] = fill("ranks", ranks, rank=np.arange(ranks), threads=1, **text)
    return RoundRecord(round=round, tables=tables)


def write_run(
    path: Path,
    *,
    rounds: int = 3,
    clients: int = 10,
    attackers: int = 3,
    groups: int = 2,
    ranks: int = 2,
    evaluated: bool = True,
    config: str = '[run]\nseed = 1\nrounds = 3\n[threat]\nattack = "sign-flip"\n',
    **values: Any,
) -> Run:
    """Write a run folder and open it; `values` overrule columns of `participation`."""
    folder = RunFolder(path)
    folder.create()
    folder.config.write_text(config, "utf-8")
    if rounds == 0:
        return open_run(path)
    writer = TraceWriter(
        folder=folder,
        communicator=SerialCommunicator(),
        config_text=config,
        provenance='{"versions": {"hpcfsl": "0"}}',
        result_settings="{}",
        component_names=COMPONENTS,
        buffer_bytes=1000,
        update_dtype="float32",
    )
    shape = {"clients": clients, "attackers": attackers, "groups": groups, "ranks": ranks, "evaluated": evaluated}
    for round in range(rounds):
        writer.add_round(make_round(round, values=values, **shape))
    weights = np.zeros(3, np.float32)
    writer.commit(Checkpoint(next_round=rounds, weights=weights, arrays={}, config_text=config, segment_start=0))
    folder.set_status("finished")
    return open_run(path)


def dump_dom(page: Path, profile: Path) -> str:
    """Return the document that a real browser makes of a page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("NOT TESTED IN A BROWSER: no chromium here; install it to run this test")
    quiet = ("background-networking", "component-update", "sync")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    command = [chromium, *flags, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, timeout=120, text=True).stdout


@pytest.fixture(scope="session")
def write() -> Callable[..., Run]:
    return write_run


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], str]:
    return lambda page: dump_dom(page, tmp_path / "profile")
