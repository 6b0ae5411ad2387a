"""Fake commands of Slurm and MPI: each writes down its arguments; a test says what they do besides."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "mpirun", "srun", "apptainer", "module")


@dataclass(frozen=True, kw_only=True)
class Fakes:
    """A folder of fake commands.

    Attributes:
        folder: Where they are, and what they wrote.
    """

    folder: Path

    def set(self, name: str, script: str = "") -> None:
        """Let a command also run some lines of bash; its arguments are `$@`."""
        path = self.folder / name
        note = f'printf "%s\\0" "$#" "$@" >>"{self.folder}/{name}.calls"'
        path.write_text(f"#!/bin/bash\n{note}\n{script}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def calls(self, name: str) -> list[list[str]]:
        """Return the arguments of each call, oldest first."""
        path = self.folder / f"{name}.calls"
        words = path.read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1] if path.exists() else []
        found = []
        while words:
            count = int(words[0]) + 1
            found.append(words[1:count])
            words = words[count:]
        return found

    def forget(self) -> None:
        """Delete what was written down."""
        for name in COMMANDS:
            (self.folder / f"{name}.calls").unlink(missing_ok=True)

    def environment(self, **changes: str) -> dict[str, str]:
        """Return an environment in which the fakes come first."""
        return {**os.environ, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}", **changes}

    def run(self, script: Path, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a job's script as Slurm would."""
        job = {"SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "n[1-2]"}
        return subprocess.run(
            ["bash", str(script)],
            env=self.environment(**job, **changes),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def make_fakes(folder: Path) -> Fakes:
    """Return fakes that succeed and do nothing else; sbatch answers with job 41."""
    folder.mkdir(parents=True, exist_ok=True)
    fakes = Fakes(folder=folder)
    for name in COMMANDS:
        fakes.set(name)
    fakes.set("sbatch", "echo 41")
    return fakes
