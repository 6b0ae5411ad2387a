"""`hpcfsl submit`: check everything that can be checked here, write the script, hand it to Slurm.

Layer 4. A mistake that shows up after a night in the queue costs the night. So the configuration, the folder and the
request are checked before; and the job gets a copy of the resolved configuration, because a job that starts tomorrow,
or is requeued next week, must not pick up what was edited since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcfsl.cluster.job import Job, Request, make_job
from hpcfsl.cluster.script import JOB_FOLDER, render_run
from hpcfsl.cluster.site import Site
from hpcfsl.cluster.slurm import job_state, submit_script
from hpcfsl.config import Config, changed_settings, result_settings
from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.trace.checkpoint import latest_checkpoint
from hpcfsl.trace.folder import RunFolder, folder_errors, write_atomic

_IDS = "jobs"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job that passed every check.

    Attributes:
        job: What it asks for.
        run: The run folder, absolute.
        config: All settings.
        script: The batch script.
        warnings: What may not be meant, one sentence each.
    """

    job: Job
    run: Path
    config: Config
    script: str
    warnings: tuple[str, ...]


def plan_run(config: Config, out: Path, site: Site, request: Request) -> Plan:
    """Return the job of a configuration; touches nothing.

    Raises:
        UserError: The request, the site or the folder do not allow it.
    """
    run = out.absolute()
    job = make_job(site, request, config.run.threads)
    check_folder(run, config)
    return Plan(job=job, run=run, config=config, script=render_run(job, run), warnings=tuple(_warnings(job, config)))


def submit(plan: Plan) -> str:
    """Write script and configuration into the run folder, submit; return the job's id.

    Raises:
        UserError: A job on this folder is waiting or running, the folder cannot be written, or sbatch refuses.
    """
    folder = plan.run / JOB_FOLDER
    check_queue(plan.run)
    with folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "config.toml", plan.config.to_toml().encode())
    write_atomic(folder / "job.sh", plan.script.encode())
    job = submit_script(folder / "job.sh")
    with folder_errors(folder / _IDS), (folder / _IDS).open("a", encoding="utf-8") as stream:
        stream.write(f"{job}\n")
    return job


def check_folder(run: Path, config: Config) -> None:
    """Refuse a run folder that a job could only stumble over.

    Raises:
        RunFolderError: Its run goes on at this moment, is finished, or was started with other settings.
    """
    if not run.exists():
        return
    folder = RunFolder(run)
    if folder.is_locked():
        raise RunFolderError(one_line(f"{run}: is running at this moment; wait for it, or choose another --out"))
    loaded = latest_checkpoint(folder)
    if loaded is None:
        return
    changed = changed_settings(loaded.header.texts.result_settings, result_settings(config))
    if changed:
        text = f"{run}: was started with other values of {', '.join(changed)}; use those, or another --out"
        raise RunFolderError(one_line(text))
    done = loaded.checkpoint.next_round
    if done >= config.run.rounds:
        text = f"{run}: is finished, {done} rounds; raise run.rounds to extend it, or choose another --out"
        raise RunFolderError(one_line(text))


def check_queue(run: Path) -> None:
    """Refuse a folder whose last job has not ended: two jobs on one folder get into each other's way.

    Raises:
        RunFolderError: It waits or runs.
    """
    last = last_job(run)
    state = job_state(last) if last else None
    if state is not None:
        fix = f"wait for it, or scancel {last} first"
        raise RunFolderError(one_line(f"{run}: job {last} is on this folder already ({state.lower()}); {fix}"))


def last_job(run: Path) -> str | None:
    """Return the id of the job that was submitted last on a folder, or None where there was none."""
    ids = run / JOB_FOLDER / _IDS
    with folder_errors(ids):
        known = ids.read_text(encoding="utf-8").split() if ids.exists() else []
    return known[-1] if known else None


def _warnings(job: Job, config: Config) -> list[str]:
    groups = config.groups.number
    if job.ranks > groups:
        return [f"{job.ranks} ranks for {groups} groups: {job.ranks - groups} ranks train nothing; ask for fewer"]
    return []
