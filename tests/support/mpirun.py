"""Starts ranks as a user would, with a time limit; the tests' own process never loads MPI.

The launcher is `mpirun` beside the running Python, else the one on the PATH. Other kinds of MPI have an environment
each, which jobs/test.sh makes and names in HPCFSL_TEST_MPICH and HPCFSL_TEST_SYSTEM_MPI: its python loads that MPI and
its mpirun starts it. The flags follow jobs/lib.sh.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PLUGIN = Path(__file__).parent / "plugin"
SECONDS = 100.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended: exit status, what it printed, seconds it took."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """Lines on standard error that are ours, not the launcher's, which may end in the middle of one."""
        return [line[line.index("hpcfsl: ") :] for line in self.stderr.splitlines() if "hpcfsl: " in line]


# What tests call the kinds of MPI, and the variable with the environment of each; "own" is the one of this Python.
OTHER_MPIS = {"mpich": "HPCFSL_TEST_MPICH", "system": "HPCFSL_TEST_SYSTEM_MPI"}


def find_python(mpi: str = "own") -> str:
    """Return the Python that loads a kind of MPI."""
    return sys.executable if mpi == "own" else str(Path(os.environ[OTHER_MPIS[mpi]]) / "bin" / "python")


@functools.cache
def find_mpirun(mpi: str = "own") -> str | None:
    """Return the launcher's path, or None where there is none."""
    beside = shutil.which("mpirun", path=str(Path(find_python(mpi)).parent))
    return beside or (shutil.which("mpirun") if mpi == "own" else None)


@functools.cache
def is_open_mpi(mpi: str = "own") -> bool:
    """Return whether the launcher is Open MPI's (else it is taken for MPICH's)."""
    done = subprocess.run([find_mpirun(mpi) or "", "--version"], capture_output=True, text=True, check=True, timeout=30)
    return "Open MPI" in done.stdout or "OpenRTE" in done.stdout


def launcher(size: int, mpi: str = "own") -> list[str]:
    """Return the command that starts `size` ranks; 0 starts the program without a launcher."""
    if size == 0:
        return []
    flags = []
    if is_open_mpi(mpi):
        flags = ["--bind-to", "none", "--oversubscribe"]
        flags += ["--allow-run-as-root"] if os.geteuid() == 0 else []
    return [find_mpirun(mpi) or "", "-n", str(size), *flags]


@functools.cache
def _session_folders() -> tempfile.TemporaryDirectory[str]:
    """Return the folder for what launchers keep while they run; it goes when the tests end."""
    return tempfile.TemporaryDirectory(prefix="hpcfsl-launchers-", ignore_cleanup_errors=True)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a job on one machine whose cores the ranks share.

    Each job has a session folder of its own. Open MPI names those by process number, and mpirun refuses to start
    where one that was killed left the folder of the number it has been given ("listener thread failed to start").
    """
    hidden = ("OMPI_", "PMI", "PALS_", "SLURM_", "HPCFSL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = os.pathsep.join([str(PLUGIN), *filter(None, [kept.get("PYTHONPATH")])])
    session = tempfile.mkdtemp(dir=_session_folders().name)
    ours = {
        "PRTE_MCA_prte_tmpdir_base": session,
        "OMPI_MCA_orte_tmpdir_base": session,
        "OMP_NUM_THREADS": "1",
        "HPCFSL_PROGRESS": "0",
        "OMPI_MCA_pml": "ob1",
        "OMPI_MCA_btl": "^ofi,uct",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "MPIR_CVAR_ENABLE_HEAVY_YIELD": "1",
        "PYTHONPATH": path,
    }
    return {**kept, **ours, **changes}


def start(size: int, *arguments: str | Path, mpi: str = "own", **changes: str) -> subprocess.Popen[str]:
    """Start Python with `arguments` as `size` ranks of a kind of MPI; `changes` are environment variables."""
    return subprocess.Popen(
        [*launcher(size, mpi), find_python(mpi), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = SECONDS) -> Ended:
    """Wait for a job; kill all of it and fail where it takes longer than `seconds`."""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        raise AssertionError(f"still running after {seconds} s\n{stdout}\n{stderr}") from None
    return Ended(code=process.returncode, stdout=stdout, stderr=stderr)


def run_ranks(size: int, *arguments: str | Path, seconds: float = SECONDS, **changes: str) -> Ended:
    """Start Python with `arguments` as `size` ranks and wait for it."""
    return finish(start(size, *arguments, **changes), seconds)


def run_hpcfsl(size: int, config: Path, out: Path, *options: str, seconds: float = SECONDS, **changes: str) -> Ended:
    """Run `hpcfsl run CONFIG --out OUT` as `size` ranks and wait for it."""
    return run_ranks(size, "-m", "hpcfsl", "run", config, "--out", out, *options, seconds=seconds, **changes)
