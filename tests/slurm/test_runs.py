"""Runs through `hpcfsl submit` on a real Slurm: whatever happens to the job, the digest is that of a run left alone."""

from __future__ import annotations

import os
import time
from ctypes.util import find_library
from dataclasses import replace

import pytest
from support.mpirun import is_open_mpi
from support.slow_run import CHECKPOINT_ROUNDS, ROUNDS, SlowRun
from support.slurm import wait_until

import hpcfsl


def hosts(run: SlowRun) -> list[list[str]]:
    """Return the nodes of the ranks at each start."""
    trace = hpcfsl.open(run.out)
    names, starts = trace.table("ranks")["host"], trace.table("ranks")["first_round"]
    return [[name.decode() for name in names[starts == start]] for start in sorted(set(starts.tolist()))]


def finish(run: SlowRun, job: str) -> None:
    run.hurry()
    run.cluster.wait_for(job, "COMPLETED")
    assert run.status() == "finished", run.cluster.log(job)


def test_two_nodes(slow_run: SlowRun, undisturbed: str) -> None:
    slow_run.hurry()
    job = slow_run.submit("--ranks-per-node", "2")
    finish(slow_run, job)
    assert slow_run.cluster.job(job)["NodeList"] == "n[1-2]"
    assert hosts(slow_run) == [["n1", "n1", "n2", "n2"]]
    assert slow_run.rounds() == list(range(ROUNDS))
    assert slow_run.digest() == undisturbed


def test_time_limit_requeue(slow_run: SlowRun, undisturbed: str) -> None:
    """Slurm warns, the run stops at one agreed round, the job goes back into the queue and finishes the run."""
    slow_run.slow_down(1.0)  # a minute is over before the run is
    job = slow_run.submit("--time", "1:00")
    slow_run.cluster.wait_for_restart(job)
    assert slow_run.status() == "resumable"
    stopped = len(slow_run.rounds())
    # A slow machine needs longer than what is left of a minute, and would be warned again.
    slow_run.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=10", cwd=slow_run.folder)
    finish(slow_run, job)
    assert slow_run.cluster.job(job)["Restarts"] == "1"
    assert hpcfsl.open(slow_run.out).table("ranks")["first_round"].tolist() == [0, 0, stopped, stopped]
    assert slow_run.rounds() == list(range(ROUNDS))  # nothing was lost
    assert slow_run.digest() == undisturbed


def test_warned_while_the_ranks_are_starting(slow_run: SlowRun, undisturbed: str) -> None:
    """The run is asked again once it can hear: a warning that came too early is not lost."""
    job = slow_run.submit()
    # A job that is RUNNING may not have its shell yet; this line comes before the ranks, which take seconds to begin.
    wait_until("the script's first line", lambda: "starts" in slow_run.cluster.log(job), 60)
    assert not (slow_run.out / "status").exists()
    slow_run.cluster.call("scancel", "--batch", "--signal=USR2", job, cwd=slow_run.folder)
    slow_run.cluster.wait_for_restart(job)
    assert 0 < len(slow_run.rounds()) < ROUNDS
    finish(slow_run, job)
    assert slow_run.digest() == undisturbed


def test_scancel_and_resubmit(slow_run: SlowRun, undisturbed: str) -> None:
    job = slow_run.submit()
    slow_run.wait_for_rounds(CHECKPOINT_ROUNDS + 3)
    slow_run.cluster.call("scancel", job, cwd=slow_run.folder)
    slow_run.cluster.wait_for(job, "CANCELLED")
    again = slow_run.submit()
    assert again != job
    finish(slow_run, again)
    assert len(slow_run.rounds()) <= ROUNDS + CHECKPOINT_ROUNDS
    assert slow_run.digest() == undisturbed


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_node_failure(node: str, slow_run: SlowRun, undisturbed: str) -> None:
    """A node with its slurmd and its ranks is gone at once; on n1 that is the batch script and the launcher too."""
    job = slow_run.submit()
    slow_run.wait_for_rounds(CHECKPOINT_ROUNDS + 3)
    slow_run.cluster.kill_node(node)
    slow_run.hurry()
    time.sleep(2)
    slow_run.cluster.start_node(node)
    slow_run.cluster.wait_for_restart(job)
    finish(slow_run, job)
    assert len(slow_run.rounds()) <= ROUNDS + CHECKPOINT_ROUNDS
    assert slow_run.digest() == undisturbed


def test_array_where_requeue_is_forbidden(slow_run: SlowRun, undisturbed: str) -> None:
    """The next element goes on; once the run is finished, those that still wait go away."""
    job = slow_run.submit("--array", "20")
    slow_run.wait_for_rounds(3)
    # What Slurm sends when the time is nearly up. Slurm 22.05 sends it to an element of an array and exits with 1.
    first = slow_run.cluster.job(f"{job}_1")["JobId"]
    slow_run.cluster.call("scancel", "--batch", "--signal=USR2", first, cwd=slow_run.folder, check=False)
    slow_run.cluster.wait_for(f"{job}_1", "FAILED")
    assert slow_run.cluster.job(f"{job}_1")["Requeue"] == "0"
    slow_run.hurry()
    assert slow_run.cluster.wait_for_array(job) == {"1": "FAILED", "2": "COMPLETED", "rest": "CANCELLED"}
    assert slow_run.status() == "finished"
    starts = hpcfsl.open(slow_run.out).table("ranks")["first_round"].tolist()
    assert starts[:2] == [0, 0]
    assert 3 <= starts[2] == starts[3] < ROUNDS
    assert slow_run.rounds() == list(range(ROUNDS))
    assert slow_run.digest() == undisturbed


def test_srun_with_pmix(slow_run: SlowRun, undisturbed: str) -> None:
    """Slurm starts the ranks itself, without the launcher of the MPI."""
    if not (is_open_mpi() and find_library("pmix")):
        (pytest.fail if os.environ.get("HPCFSL_NEED_SLURM") else pytest.skip)("needs Open MPI and libpmix")
    run = replace(slow_run, site='launcher = "srun-pmix"\nbind = "none"\n')
    run.hurry()
    finish(run, run.submit())
    assert hosts(run) == [["n1", "n2"]]
    assert run.digest() == undisturbed
