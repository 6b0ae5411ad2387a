"""Makes sure that one rank's failure ends all ranks.

Layer 3. An exception on one rank would leave the others waiting in a collective for ever. So whatever escapes is
written down by the rank that it happened on, and that rank then ends the whole job.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Iterator

from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.communicator import AgreedError, Communicator
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder


@contextlib.contextmanager
def failing_together(folder: RunFolder, communicator: Communicator, watch: Stopwatch) -> Iterator[None]:
    """End all ranks when an exception leaves the context on this one; on one rank alone only record it.

    An `AgreedError` passes: every rank raises it, so all of them leave in order.
    """
    try:
        yield
    except AgreedError:
        raise
    except BaseException as error:
        where = f"rank {communicator.rank}, phase {watch.current}"
        problem = _write_down(folder, communicator, watch, error)
        if problem is not None:
            print(f"hpcfsl: {where}: the failure could not be written down: {problem}", file=sys.stderr)
        if communicator.size > 1:
            print(f"hpcfsl: {where}: {one_line(f'{type(error).__name__}: {error}')}", file=sys.stderr)
            if not isinstance(error, UserError):
                traceback.print_exception(error)
            sys.stderr.flush()
            communicator.abort(2 if isinstance(error, UserError) else 1)
        error.add_note(f"hpcfsl: {where}")
        raise


def _write_down(folder: RunFolder, communicator: Communicator, watch: Stopwatch, error: BaseException) -> str | None:
    """Add the failure to the run folder, if this run got as far as using it; return why it could not be added."""
    record = {
        "failure": one_line(str(error)),
        "type": type(error).__name__,
        "rank": communicator.rank,
        "phase": watch.current,
    }
    try:
        # A finished run is nobody's to fail: only a program that never started on it can get here.
        if folder.config.exists() and folder.status() != "finished":
            folder.add_progress(json.dumps(record))
            folder.set_status("resumable" if isinstance(error, KeyboardInterrupt) else "failed")
    except (OSError, UserError) as second:
        return one_line(str(second))
    return None
