"""Starting processes side by side and reading what they say: one JSON object a line on standard output.

A worker prints `{"event": "start"}` when its timed rounds begin and `{"event": "result", ...}` when they are over;
other lines are noise of libraries and are passed over. Processes that should work at the same time but know nothing of
each other wait between the two for a file, which appears once all are there. At the two events of the first process the
energy counters of the processor are read, where the machine lets us.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from hpcfsl.errors import UserError, one_line

GATE = "HPCFSL_BENCH_GATE"
"""The environment variable that names the file to wait for."""

_POWERCAP = Path("/sys/class/powercap")
_POLL_SECONDS = 0.01
_READER_SECONDS = 10.0
# What a launcher leaves in the environment of the ranks it starts; ours must not take themselves for some of those.
_LAUNCHERS = ("OMPI_", "PMI", "PMIX_", "PRTE_", "PALS_", "SLURM_", "PFL_")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One process to start.

    Attributes:
        argv: Program and arguments.
        environment: What is added to the environment.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What came out of processes that ran side by side.

    Attributes:
        results: The result of each process, in the order they were given.
        joules: Energy of the machine's processors during the timed rounds of the first one; None if not readable.
    """

    results: tuple[dict[str, Any], ...]
    joules: float | None


class BenchmarkError(UserError):
    """A contender that did not run to its end."""


def find_mpirun() -> str | None:
    """Return the launcher beside this Python, else the one on the PATH, or None."""
    return shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")


def rank_command(ranks: int, arguments: tuple[str, ...]) -> Command:
    """Return the command that runs a Python program of ours as so many ranks on this machine.

    The flags are those of jobs/lib.sh. One rank needs no launcher, and does without where there is none.

    Raises:
        UserError: There is no launcher for several ranks.
    """
    program = (sys.executable, *arguments)
    mpirun = find_mpirun()
    if mpirun is None:
        if ranks > 1:
            fix = "install hpcfsl[openmpi], or measure one rank, --ranks 1"
            raise UserError(f"--ranks {ranks}: there is no mpirun beside {sys.executable} or on the PATH; {fix}")
        return Command(argv=program)
    flags: tuple[str, ...] = ()
    environment = {}
    if _is_open_mpi(mpirun):
        flags = ("--bind-to", "none")
        flags += ("--allow-run-as-root",) if os.geteuid() == 0 else ()
        flags += ("--oversubscribe",) if ranks > num_cores() else ()
        environment = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "^ofi,uct"}
    return Command(argv=(mpirun, "-n", str(ranks), *flags, *program), environment=environment)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def run_together(name: str, commands: tuple[Command, ...], *, seconds: float, gate: bool = False) -> Finished:
    """Start processes side by side, wait for all, and return their results.

    Args:
        name: What errors call them.
        commands: What to start.
        seconds: How long they may take.
        gate: Whether they wait for each other before the timed rounds; workers of ours do.

    Raises:
        BenchmarkError: One could not be started, failed, took too long, or said nothing; names the last error line.
    """
    with contextlib.ExitStack() as held:
        path = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="hpcfsl-bench-"))) / "gate"
        running: list[_Running] = []
        for command in commands:
            environment = {**command.environment, **({GATE: str(path)} if gate else {})}
            running.append(_Running(name, replace(command, environment=environment), first=not running))
            held.callback(running[-1].close)
        _wait_for_all(name, running, path, time.monotonic() + seconds)
        return Finished(results=tuple(process.result() for process in running), joules=running[0].joules())


def _wait_for_all(name: str, running: list[_Running], gate: Path, deadline: float) -> None:
    """Wait until all have ended, or one has failed; open the gate once all have started."""
    while any(process.runs() for process in running):
        if any(process.failed() for process in running):
            break  # the others may wait for it for ever
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{name}: not done in time; its last words: {running[0].last_error()}")
        if not gate.exists() and all(process.started for process in running):
            gate.touch()
        time.sleep(_POLL_SECONDS)
    for process in sorted(running, key=lambda process: not process.failed()):
        process.result()


class _Running:
    """A started process, with a thread that reads what it prints."""

    def __init__(self, name: str, command: Command, *, first: bool) -> None:
        self._name, self._first, self.started = name, first, False
        self._energy: dict[str, float | None] = {}
        self._result: dict[str, Any] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
        try:
            self._process = subprocess.Popen(
                command.argv,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                stdin=subprocess.DEVNULL,
                env={**kept, **command.environment},
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise BenchmarkError(one_line(f"{name}: cannot start {command.argv[0]}: {error}")) from None
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def runs(self) -> bool:
        return self._process.poll() is None

    def failed(self) -> bool:
        return bool(self._process.poll())

    def close(self) -> None:
        """End the process and everything it started, if it still runs, and let go of its output."""
        if self.runs():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(_READER_SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def result(self) -> dict[str, Any]:
        code = self._process.wait()
        self._reader.join(_READER_SECONDS)
        if code or self._result is None:
            why = f"ended with status {code}" if code else "said nothing"
            raise BenchmarkError(one_line(f"{self._name}: {why}: {self.last_error()}"))
        return self._result

    def joules(self) -> float | None:
        start, end = self._energy.get("start"), self._energy.get("result")
        return None if start is None or end is None or end < start else end - start

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            said = _parse(line)
            if said.get("event") in ("start", "result") and self._first:
                self._energy[said["event"]] = read_energy()
            self.started = self.started or said.get("event") == "start"
            if said.get("event") == "result":
                self._result = said

    def last_error(self) -> str:
        """Return the line of the error output that says most."""
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        # A launcher's own words come last; the program's error is the last line that names one.
        named = [line for line in lines if "Error" in line or line.startswith("hpcfsl:")]
        return (named or lines or ["no error text"])[-1]


def read_energy() -> float | None:
    """Return the joules that the processors of this machine have counted so far, or None where nobody may know."""
    counters = [path / "energy_uj" for path in sorted(_POWERCAP.glob("intel-rapl:?"))]
    try:
        values = [int(path.read_text()) for path in counters]
    except (OSError, ValueError):
        return None
    return sum(values) / 1e6 if values else None


def _is_open_mpi(mpirun: str) -> bool:
    done = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in done.stdout


def _parse(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
