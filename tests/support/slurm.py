"""A real Slurm of two nodes on this machine (jobs/slurm_here.sh), and what a person would type at it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from support.mpirun import environment

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "jobs" / "slurm_here.sh"
_DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
_POLL_SECONDS = 0.2


def is_installed() -> bool:
    """Return whether Slurm's daemons and commands are on this machine."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return all(shutil.which(name, path=path) for name in _DAEMONS)


def wait_until(what: str, look: Callable[[], T | None], seconds: float) -> T:
    """Return what `look` finds as soon as it is neither None nor False; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(_POLL_SECONDS)
    return found


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The cluster whose state lies in `folder`."""

    folder: Path

    def start(self) -> None:
        self._script("start")

    def stop(self) -> None:
        self._script("stop")

    def kill_node(self, node: str) -> None:
        """Crash a node: SIGKILL to its slurmd, the launcher and the ranks on it."""
        self._script("kill-node", node)

    def start_node(self, node: str) -> None:
        self._script("start-node", node)

    def is_up(self, node: str) -> bool:
        """Return whether the node takes jobs."""
        state = self.call("sinfo", "--noheader", f"--nodes={node}", "--format=%T", cwd=self.folder)
        return state.strip() in ("idle", "mixed", "allocated")

    def processes(self) -> list[Path]:
        """Return the processes of the cluster and of its jobs, by their folders in /proc."""
        mark, found = str(self.folder).encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if mark in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                    found.append(process)
        return found

    def call(self, *words: str | Path, cwd: Path, check: bool = True, **changes: str) -> str:
        """Run a command as a person at the cluster would; return what it prints.

        Args:
            words: The command.
            cwd: Where.
            check: Fail where the command does; else return also what it says on standard error.
            changes: Environment variables; sbatch hands them on to the job.
        """
        done = subprocess.run(
            [*map(str, words)], env=self._environment(**changes), cwd=cwd, capture_output=True, text=True, timeout=60
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def job(self, job: str) -> dict[str, str]:
        """Return what `scontrol show job` says of a job or an element of an array, by name."""
        shown = self.call("scontrol", "--oneliner", "show", "job", job, cwd=self.folder)
        return dict(word.split("=", 1) for word in shown.split("\n")[0].split() if "=" in word)

    def wait_for(self, job: str, *states: str, seconds: float = 120) -> dict[str, str]:
        """Return the job once it is in one of the states."""

        return self._wait(f"job {job} {' or '.join(states)}", job, lambda found: found["JobState"] in states, seconds)

    def wait_for_restart(self, job: str, seconds: float = 120) -> dict[str, str]:
        """Return the job once it has gone back into the queue."""
        return self._wait(f"job {job} requeued", job, lambda found: found["Restarts"] != "0", seconds)

    def wait_for_array(self, job: str, seconds: float = 120) -> dict[str, str]:
        """Return the state of each element of an array, once none is left to run.

        Elements that were cancelled before Slurm made jobs of them are one entry, `rest`.
        """

        def is_empty() -> bool:
            return not self.call("squeue", "--noheader", f"--jobs={job}", cwd=self.folder)

        wait_until(f"no element of {job} in the queue", is_empty, seconds)
        shown = self.call("scontrol", "--oneliner", "show", "job", job, cwd=self.folder)
        found = re.findall(r"ArrayTaskId=(\S+) .*JobState=(\S+)", shown)
        return {name if name.isdecimal() and int(name) < 2**31 else "rest": state for name, state in found}

    def log(self, job: str) -> str:
        """Return a job's output."""
        path = Path(self.job(job).get("StdOut", ""))
        return path.read_text() if path.is_file() else ""

    def cancel_all(self) -> None:
        """Cancel every job and wait until the nodes are free."""
        self.call("scancel", "--user", str(os.geteuid()), cwd=self.folder)
        wait_until("no job", lambda: not self.call("squeue", "--noheader", cwd=self.folder), 120)

    def _wait(self, what: str, job: str, holds: Callable[[dict[str, str]], bool], seconds: float) -> dict[str, str]:
        def look() -> dict[str, str] | None:
            found = self.job(job)
            return found if holds(found) else None

        try:
            return wait_until(what, look, seconds)
        except AssertionError as error:
            controller = (self.folder / "slurmctld.log").read_text()[-4000:]
            raise AssertionError(f"{error}\n{self.job(job)}\n{self.log(job)}\n{controller}") from None

    def _environment(self, **changes: str) -> dict[str, str]:
        # The commands of the environment that the tests run in, hpcfsl and mpirun, come first.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return environment(PATH=path, SLURM_CONF=str(self.folder / "slurm.conf"), **changes)

    def _script(self, *words: str) -> None:
        command = ["bash", str(SCRIPT), words[0], str(self.folder), *words[1:]]
        with (self.folder / "script.log").open("a") as log:
            # To a file: the daemons inherit it, and a pipe would stay open as long as they run.
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120)
        assert done.returncode == 0, (self.folder / "script.log").read_text()
