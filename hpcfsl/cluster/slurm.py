"""Slurm's commands, called with lists of arguments and never through a shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from hpcfsl.errors import UserError, one_line

_SECONDS = 120.0


def submit_script(script: Path) -> str:
    """Hand a batch script to sbatch; return the job's id.

    Raises:
        UserError: There is no sbatch here, or it refuses.
    """
    answer = _call("sbatch", "--parsable", str(script))
    found = re.match(r"\d+", answer.strip().splitlines()[-1] if answer.strip() else "")
    if not found:
        raise UserError(one_line(f"sbatch {script}: answered {answer[:200]!r} and no job id; see squeue --me"))
    return found.group()


def job_state(job: str) -> str | None:
    """Return the state of a job that waits or runs (`PENDING`, `RUNNING`, ...), or None once it has ended."""
    try:
        answer = _call("squeue", "--noheader", "--format=%T", f"--jobs={job}")
    except UserError:
        return None  # Slurm forgets jobs some minutes after their end, and then calls the id invalid
    return answer.split()[0] if answer.split() else None


def _call(*words: str) -> str:
    """Return what a command prints."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        fix = "run this on a login node of the cluster, or use --dry-run to see the script"
        raise UserError(f"{words[0]}: there is no such command here; {fix}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{words[0]}: did not answer in {_SECONDS:.0f} seconds; try again later") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise UserError(one_line(f"{words[0]} refused: {said}"))
    return done.stdout
