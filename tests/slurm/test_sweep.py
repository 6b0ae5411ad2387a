"""A sweep as a job array on a real Slurm, and the table that comes out of it."""

from __future__ import annotations

import csv
import re

import tomli_w
from support.mpirun import run_hpcfsl
from support.slow_run import SlowRun

import hpcfsl
from hpcfsl.trace.digest import digest

ROUNDS = 10


def test_sweep_as_array(slow_run: SlowRun) -> None:
    sweep = {"base": str(slow_run.config), "seeds": [0, 1], "fixed": {"run.rounds": ROUNDS}}
    slow_run.hurry()
    (slow_run.folder / "sweep.toml").write_text(tomli_w.dumps(sweep | {"grid": {"threat.clients": [4, 5]}}))
    said = slow_run.sweep()
    job = re.search(r"submitted job (\d+): 4 runs", said)
    assert job, said
    assert slow_run.cluster.wait_for_array(job.group(1)) == dict.fromkeys("1234", "COMPLETED")

    path = slow_run.folder / "table.csv"
    slow_run.cluster.call("hpcfsl", "sweep-table", slow_run.out, "--csv", path, cwd=slow_run.folder)
    with path.open() as stream:
        table = list(csv.DictReader(stream))
    assert {(row["threat.clients"], row["seed"]) for row in table} == {(n, seed) for n in "45" for seed in "01"}
    assert {(row["status"], row["rounds"]) for row in table} == {("finished", str(ROUNDS))}

    last, alone = slow_run.out / "runs" / table[-1]["run"], slow_run.folder / "alone"
    changes = (f"run.rounds={ROUNDS}", f"threat.clients={table[-1]['threat.clients']}", f"run.seed={table[-1]['seed']}")
    ended = run_hpcfsl(0, slow_run.config, alone, *(word for change in changes for word in ("--set", change)))
    assert ended.code == 0, ended.stderr
    assert digest(hpcfsl.open(last)) == digest(hpcfsl.open(alone))
    assert "submitted" not in slow_run.sweep()  # nothing is left to do
