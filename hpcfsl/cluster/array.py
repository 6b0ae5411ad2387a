"""A sweep's runs: which are left, one after the other here, or as elements of a Slurm job array.

    FOLDER/sweep.json         the runs and what sets them apart, for the table
    FOLDER/runs/NAME          a run folder each
    FOLDER/job/runs.txt       a run folder a line; element N of the array takes line N
    FOLDER/job/job.sh         the script, and the elements' logs beside it

Doing it again only does what is left: a run that is finished is passed over, one that was cut off goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcfsl.cluster.checks import Standing, check_world, rank_warnings, standing
from hpcfsl.cluster.job import Job, Request, make_job
from hpcfsl.cluster.script import JOB_FOLDER, RUNS, render_sweep
from hpcfsl.cluster.site import Site
from hpcfsl.cluster.submit import check_queue, hand_over, write_config
from hpcfsl.cluster.sweep import Member
from hpcfsl.errors import RunFolderError, UserError, one_line
from hpcfsl.trace.folder import folder_errors, write_atomic

LIST = "sweep.json"
_LEFT: tuple[Standing, ...] = ("new", "unfinished")


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The runs of a sweep and how far they are.

    Attributes:
        folder: The sweep's folder, absolute.
        members: All runs.
        standings: How far each is, in their order.
        warnings: Runs that cannot go on and why, one sentence each.
    """

    folder: Path
    members: Sequence[Member]
    standings: Sequence[Standing | None]
    warnings: tuple[str, ...]

    @property
    def left(self) -> list[int]:
        """Places of the runs that are to do."""
        return [place for place, found in enumerate(self.standings) if found in _LEFT]

    def path(self, member: Member) -> Path:
        """Return the run folder of a member."""
        return run_path(self.folder, member.name)

    def counts(self) -> str:
        """Return how many runs there are of each standing, in words."""
        names = ("new", "unfinished", "running", "finished", None)
        found = [(self.standings.count(name), name or "cannot go on") for name in names]
        return ", ".join(f"{count} {name}" for count, name in found if count)


def run_path(folder: Path, name: str) -> Path:
    """Return the folder of a sweep's run."""
    return folder / "runs" / name


def look(members: Sequence[Member], out: Path) -> Runs:
    """Return how far the runs of a sweep are; touches nothing. A run that cannot go on is a warning, not an error."""
    folder = out.absolute()
    standings: list[Standing | None] = []
    warnings: list[str] = []
    for member in members:
        found: Standing | None = None
        try:
            found = standing(run_path(folder, member.name), member.config)
        except RunFolderError as error:
            warnings.append(f"left out: {error}")
        standings.append(found)
    return Runs(folder=folder, members=members, standings=standings, warnings=tuple(warnings))


def check_settings(runs: Runs) -> None:
    """Build data and model of each case that is left, once for all its seeds.

    Raises:
        UserError: Data that cannot be read, or settings that do not fit them; the text names the run.
    """
    seen: list[tuple[str, Mapping[str, object]]] = []
    for place in runs.left:
        member = runs.members[place]
        if (member.case, member.settings) in seen:
            continue
        seen.append((member.case, member.settings))
        try:
            check_world(member.config)
        except UserError as error:
            raise UserError(f"run {member.name}: {error}") from None


def plan_array(runs: Runs, site: Site, request: Request, at_once: int | None) -> tuple[str, list[str]]:
    """Return the script of a job array of the runs that are left, and warnings; touches nothing.

    Raises:
        UserError: The request contradicts itself or the site, or runs need different numbers of threads.
    """
    threads = {runs.members[place].config.run.threads for place in runs.left}
    if len(threads) > 1:
        raise UserError(f"run.threads = {sorted(threads)}: elements of an array ask for the same cores; use one number")
    job = make_job(site, request, threads.pop())
    script = render_sweep(job, runs.folder, [place + 1 for place in runs.left], at_once)
    return script, _array_warnings(runs, job)


def submit_array(runs: Runs, script: str) -> str:
    """Write everything that the elements need, submit; return the job's id.

    Raises:
        UserError: The sweep's last job has not ended, the folder cannot be written, or sbatch refuses.
    """
    check_queue(runs.folder)
    write_list(runs)
    for place in runs.left:
        write_config(runs.path(runs.members[place]), runs.members[place].config)
    lines = "".join(f"{runs.path(member)}\n" for member in runs.members)
    with folder_errors(runs.folder):
        (runs.folder / JOB_FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(runs.folder / JOB_FOLDER / RUNS, lines.encode())
    return hand_over(runs.folder, script)


def run_here(runs: Runs, program: Sequence[str], ranks: int, tell: Callable[[str], None]) -> list[str]:
    """Run what is left on this machine, one after the other; return the names of runs that did not finish.

    Args:
        runs: The sweep's runs.
        program: The words that call the program.
        ranks: Ranks of each run; 1 starts no launcher.
        tell: Told what begins.
    """
    write_list(runs)
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    failed = []
    for number, place in enumerate(runs.left, start=1):
        member = runs.members[place]
        tell(f"{number}/{len(runs.left)} {member.name}")
        run = runs.path(member)
        config = write_config(run, member.config)
        if not _finishes([*launcher, *program, "run", str(config), "--out", str(run)]):
            failed.append(member.name)
    return failed


def write_list(runs: Runs) -> None:
    """Write which runs there are, for the table."""
    rows = [
        {"name": member.name, "case": member.case, "settings": member.settings, "seed": member.seed}
        for member in runs.members
    ]
    with folder_errors(runs.folder):
        runs.folder.mkdir(parents=True, exist_ok=True)
    write_atomic(runs.folder / LIST, (json.dumps(rows, indent=1) + "\n").encode())


def _finishes(command: Sequence[str]) -> bool:
    # Open MPI refuses to work for root or with more ranks than cores unless told; other launchers ignore these.
    told = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PRTE_MCA_hwloc_default_binding_policy": "none",
    }
    try:
        done = subprocess.run(command, env={**told, **os.environ}, stdout=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        raise UserError(
            one_line(f"{command[0]}: there is no such command here; --local starts ranks with it")
        ) from None
    return done.returncode == 0


def _array_warnings(runs: Runs, job: Job) -> list[str]:
    found: dict[str, None] = {}
    for place in runs.left:
        found.update(dict.fromkeys(rank_warnings(runs.members[place].config, job)))
    return list(found)
