"""`hpcfsl submit`: check everything that can be checked here, write the script, hand it to Slurm.

A mistake that shows up after a night in the queue costs the night, so configuration, folder and request are checked
first. The job gets a copy of the resolved configuration: a job that starts tomorrow, or is requeued next week, must not
pick up what was edited since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcfsl.cluster.checks import check_free, check_world, rank_warnings, time_warnings
from hpcfsl.cluster.job import Job, Request, make_job
from hpcfsl.cluster.script import CONFIG, JOB_FOLDER, SCRIPT, render_run
from hpcfsl.cluster.site import Site
from hpcfsl.cluster.slurm import job_state, submit_script
from hpcfsl.config import Config
from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.trace.folder import folder_errors, write_atomic

_IDS = "jobs"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job that passed every check.

    Attributes:
        run: The run folder, absolute.
        config: All settings.
        script: The batch script.
        warnings: What may not be meant, one sentence each.
    """

    run: Path
    config: Config
    script: str
    warnings: tuple[str, ...]


def plan_run(config: Config, out: Path, site: Site, request: Request, *, measure: bool = True) -> Plan:
    """Return the job of a configuration; touches nothing.

    Args:
        config: All settings.
        out: The run folder.
        site: The cluster.
        request: What the command line asks for.
        measure: Whether to build data and model here, and to estimate the time unless the job is for GPUs.

    Raises:
        UserError: The request, the site or the folder do not allow it.
    """
    run = out.absolute()
    job = make_job(site, request, config.run.threads)
    check_free(run, config)
    script = render_run(job, run)
    warnings = [*rank_warnings(config, job), *(_measured(config, job) if measure else ())]
    return Plan(run=run, config=config, script=script, warnings=tuple(warnings))


def _measured(config: Config, job: Job) -> list[str]:
    if job.site.gpus_per_node:  # a processor says nothing about the time on a GPU
        check_world(config)
        return []
    return list(time_warnings(config, job))


def submit(plan: Plan) -> str:
    """Write script and configuration into the run folder, submit; return the job's id.

    Raises:
        UserError: A job on this folder is waiting or running, the folder cannot be written, or sbatch refuses.
    """
    check_queue(plan.run)
    write_config(plan.run, plan.config)
    return hand_over(plan.run, plan.script)


def write_config(run: Path, config: Config) -> Path:
    """Write the resolved configuration for a job into a run folder; return its path."""
    path = run / JOB_FOLDER / CONFIG
    with folder_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, config.to_toml().encode())
    return path


def hand_over(folder: Path, script: str) -> str:
    """Write a script into a folder, submit it, and note the job's id there; return it."""
    place = folder / JOB_FOLDER
    write_atomic(place / SCRIPT, script.encode())
    job = submit_script(place / SCRIPT)
    with folder_errors(place / _IDS), (place / _IDS).open("a", encoding="utf-8") as stream:
        stream.write(f"{job}\n")
    return job


def check_queue(folder: Path) -> None:
    """Refuse a folder whose last job has not ended: two jobs on one folder get into each other's way.

    Raises:
        RunFolderError: It waits or runs.
    """
    last = last_job(folder)
    state = job_state(last) if last else None
    if state is not None:
        fix = f"wait for it, or scancel {last} first"
        raise RunFolderError(one_line(f"{folder}: job {last} is on this folder already ({state.lower()}); {fix}"))


def last_job(folder: Path) -> str | None:
    """Return the id of the job that was submitted last on a folder, or None where there was none."""
    ids = folder / JOB_FOLDER / _IDS
    with folder_errors(ids):
        known = ids.read_text(encoding="utf-8").split() if ids.exists() else []
    return known[-1] if known else None
