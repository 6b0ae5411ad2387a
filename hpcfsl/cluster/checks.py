"""What can be found out before a job waits in a queue: about the run folder, the configuration, and the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hpcfsl.cluster.job import Job
from hpcfsl.cluster.words import write_time
from hpcfsl.config import Config, changed_settings, result_settings
from hpcfsl.errors import RunFolderError, one_line
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.trace.checkpoint import latest_checkpoint
from hpcfsl.trace.folder import RunFolder

Standing = Literal["new", "unfinished", "running", "finished"]


def standing(run: Path, config: Config) -> Standing:
    """Return how far the run of a folder is.

    Raises:
        RunFolderError: It was started with other settings, or none of its checkpoints can be used.
    """
    folder = RunFolder(run)
    if not run.exists():
        return "new"
    if folder.is_locked():
        return "running"
    loaded = latest_checkpoint(folder)
    if loaded is None:
        return "new"
    changed = changed_settings(loaded.header.texts.result_settings, result_settings(config))
    if changed:
        text = f"{run}: was started with other values of {', '.join(changed)}; use those, or another --out"
        raise RunFolderError(one_line(text))
    return "finished" if loaded.checkpoint.next_round >= config.run.rounds else "unfinished"


def check_free(run: Path, config: Config) -> None:
    """Refuse a run folder that a job could only stumble over.

    Raises:
        RunFolderError: Its run goes on at this moment, is finished, or `standing` refuses it.
    """
    found = standing(run, config)
    if found == "running":
        raise RunFolderError(one_line(f"{run}: is running at this moment; wait for it, or choose another --out"))
    if found == "finished":
        fix = f"raise run.rounds, which is {config.run.rounds}, to extend it, or choose another --out"
        raise RunFolderError(one_line(f"{run}: is finished; {fix}"))


def check_world(config: Config) -> None:
    """Build data and model, on the processor, as the ranks will.

    Raises:
        UserError: Data that cannot be read, or settings that do not fit them.
    """
    from hpcfsl.world import build_world

    build_world(_on_processor(config), SerialCommunicator())


def time_warnings(config: Config, job: Job) -> Iterator[str]:
    """Yield what an estimate on this machine says about the job's time; builds data and model, as `check_world`.

    Raises:
        UserError: As `check_world`.
    """
    from hpcfsl.scaling.estimate import Request, estimate

    found = estimate(_on_processor(config), Request(ranks=job.ranks, ranks_per_node=job.ranks_per_node))
    left = job.site.signal_seconds
    if found.round.seconds > left / 2:
        fix = f"and must end in the {left} s between warning and limit; raise --signal-seconds"
        yield f"a round may take {found.round.seconds:.0f} s on processors like this one, {fix}"
    if found.seconds > job.seconds:
        starts = found.seconds / (job.seconds - left)
        how = f"that is about {starts:.0f} starts" if job.restart != "none" else "ask for more, or submit again then"
        yield f"the run may take {write_time(int(found.seconds))} and the job has {write_time(job.seconds)}: {how}"


def rank_warnings(config: Config, job: Job) -> Iterator[str]:
    """Yield what the numbers of ranks and groups say."""
    groups = config.groups.number
    if job.ranks > groups:
        yield f"{job.ranks} ranks for {groups} groups: {job.ranks - groups} of them train nothing; ask for fewer"
    if config.run.device == "cuda" and not job.site.gpus_per_node:
        yield 'run.device is "cuda" and no GPU is asked for: give --gpus-per-node'
    gpus = job.site.gpus_per_node
    if gpus > job.ranks_per_node:
        yield f"{job.ranks_per_node} ranks a node use as many of its {gpus} GPUs; the others are paid for and idle"


def _on_processor(config: Config) -> Config:
    # Where jobs are submitted there is mostly no GPU, and what is checked does not depend on one.
    return dataclasses.replace(config, run=config.run.replace(device="cpu"))
