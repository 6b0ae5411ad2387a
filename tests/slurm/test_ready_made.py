"""The job scripts of jobs/, handed to a real Slurm as they are; only the size of the job is less."""

from __future__ import annotations

import re
from pathlib import Path

from support.slow_run import ROUNDS, SlowRun
from support.slurm import ROOT

import hpcfsl

# The launcher refuses to work for root, as in continuous integration, unless it is told twice.
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def sbatch(run: SlowRun, *words: str | Path) -> str:
    run.hurry()
    said = run.cluster.call(
        "sbatch", "--parsable", "--ntasks-per-node=1", *words, cwd=run.folder, HPCFSL_PACE=str(run.pace), **AS_ROOT
    )
    assert re.fullmatch(r"\d+", said.strip()), said
    return said.strip()


def test_cpu_nodes(slow_run: SlowRun, undisturbed: str) -> None:
    job = sbatch(slow_run, ROOT / "jobs" / "cpu.sbatch", slow_run.config, slow_run.out)
    found = slow_run.cluster.wait_for(job, "COMPLETED")
    assert (found["NumNodes"], found["Requeue"]) == ("2", "1")
    assert hpcfsl.open(slow_run.out).table("ranks")["host"].tolist() == [b"n1", b"n2"]
    assert slow_run.digest() == undisturbed


def test_array(slow_run: SlowRun, undisturbed: str) -> None:
    job = sbatch(slow_run, ROOT / "jobs" / "array.sbatch", slow_run.config, slow_run.out)
    assert slow_run.cluster.wait_for_array(job) == {"1": "COMPLETED", "rest": "CANCELLED"}
    assert slow_run.rounds() == list(range(ROUNDS))
    assert slow_run.digest() == undisturbed


def test_sweep(slow_run: SlowRun, undisturbed: str) -> None:
    job = sbatch(slow_run, "--array=1,3", ROOT / "jobs" / "sweep.sbatch", slow_run.config, slow_run.out)
    assert slow_run.cluster.wait_for_array(job) == {"1": "COMPLETED", "3": "COMPLETED"}
    assert sorted(path.name for path in slow_run.out.iterdir()) == ["averaging-seed1", "hardened-seed0"]
    # The configuration's own seed is 0, and its preset is this one.
    assert slow_run.cluster.call("hpcfsl", "digest", slow_run.out / "hardened-seed0", cwd=slow_run.folder).strip() == (
        undisturbed
    )
