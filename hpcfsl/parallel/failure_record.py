"""The line that a failure leaves in the run folder, and the status that goes with it. Layer 3."""

from __future__ import annotations

import json

from hpcfsl.errors import UserError, one_line
from hpcfsl.provenance import node_name
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder, Status


def record_failure(
    folder: RunFolder, rank: int, watch: Stopwatch, *, kind: str, text: str, status: Status = "failed"
) -> str | None:
    """Add a failure to `progress.jsonl` and set the status, if the folder is this run's; return what went wrong.

    A job that does not hold the folder says nothing of a run that is finished, or that another job runs.

    Args:
        folder: The run folder.
        rank: The rank that failed.
        watch: What it was doing.
        kind: The class of the failure.
        text: What happened.
        status: The status from here on.
    """
    record = {
        "failure": one_line(text),
        "type": kind,
        "rank": rank,
        "host": node_name(),
        "phase": watch.current,
        "round": watch.round,
        "group": watch.group,
    }
    try:
        finished = folder.status() == "finished"
        if watch.holds_folder or (not finished and folder.config.exists() and not folder.is_locked()):
            folder.add_progress(json.dumps(record))
            # What fails after the last commit takes nothing back.
            if not finished:
                folder.set_status(status)
    except (OSError, UserError) as problem:
        return one_line(str(problem))
    return None
