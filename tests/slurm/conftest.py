"""A real Slurm for the whole session, and runs to submit to it.

Skipped, loudly, where Slurm is not installed; a failure instead where HPCFSL_NEED_SLURM is set, as jobs/test.sh does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.mpirun import find_mpirun, run_hpcfsl
from support.slow_run import CHECKPOINT_ROUNDS, ROUNDS, SlowRun
from support.slurm import Cluster, is_installed

import hpcfsl
from hpcfsl.trace.digest import digest

MISSING = "SLURM IS NOT INSTALLED, so nothing here was tried on a real one: bash jobs/slurm_here.sh install"


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """Start the cluster, and hold it to leave no process behind."""
    if not (is_installed() and find_mpirun()):
        (pytest.fail if os.environ.get("HPCFSL_NEED_SLURM") else pytest.skip)(MISSING)
    # Not in pytest's own folder, whose path may be too long for munge's socket.
    with tempfile.TemporaryDirectory(prefix="hpcfsl-slurm-") as folder:
        cluster = Cluster(folder=Path(folder))
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
        assert not cluster.processes()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster with nothing on it; afterwards bring back its nodes and cancel what the test left."""
    yield running_cluster
    for node in ("n1", "n2"):
        if not running_cluster.is_up(node):
            running_cluster.start_node(node)
    running_cluster.cancel_all()


@pytest.fixture
def config(tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of all runs here, the same file each time."""
    path = tmp_path_factory.getbasetemp() / "slow.toml"
    tree = tiny(
        run={"rounds": ROUNDS, "checkpoint_rounds": CHECKPOINT_ROUNDS}, threat={"attack": "fault", "clients": 4}
    )
    path.write_text(tomli_w.dumps(tree))
    return path


@pytest.fixture
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the digest of the same run in one process without a launcher; run once."""
    out = tmp_path_factory.getbasetemp() / "undisturbed"
    if not out.exists():
        ended = run_hpcfsl(0, config, out)
        assert ended.code == 0, ended.stderr
    return digest(hpcfsl.open(out))


@pytest.fixture
def slow_run(cluster: Cluster, config: Path, tmp_path: Path) -> SlowRun:
    """Return a run that is slow once it is submitted, until it is told to hurry."""
    run = SlowRun(cluster=cluster, config=config, folder=tmp_path)
    run.slow_down()
    return run
