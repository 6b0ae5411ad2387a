"""Starts a run from the command line on every rank, and makes sure that one rank's failure ends all of them.

Layer 5. An exception on one rank would leave the others waiting in a collective for ever. So whatever escapes is
written down by the rank it happened on, and that rank then ends the whole job.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from hpcfsl.config import load
from hpcfsl.display import make_listener, print_result
from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.communicator import AgreedError, Communicator, agree
from hpcfsl.parallel.mpi import connect
from hpcfsl.provenance import package_versions, processor_name
from hpcfsl.simulation import simulate
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder, Status
from hpcfsl.trace.reader import open as open_run


def launch(path: Path, out: Path, overrides: tuple[str, ...]) -> int:
    """Collective. Run a configuration and return the exit status: 0 done, 2 a user's mistake, 3 stopped on request.

    Args:
        path: The configuration file.
        out: The run folder.
        overrides: `section.key=value` settings.
    """
    communicator, folder, watch = connect(), RunFolder(out), Stopwatch()
    try:
        status = _run(path, folder, overrides, communicator, watch)
    except AgreedError as error:
        if communicator.rank == 0:
            print(f"hpcfsl: {error}", file=sys.stderr)
        return 2
    except BaseException as error:
        _fail(folder, communicator, watch, error)
        raise
    if communicator.rank == 0:
        print_result(open_run(out), status)
    return 0 if status == "finished" else 3


def describe_machine() -> dict[str, str]:
    """Return what `hpcfsl info` prints."""
    found = {"processor": processor_name(), "cores": str(os.cpu_count())}
    found |= package_versions()
    try:
        from mpi4py import MPI

        found["MPI"] = one_line(MPI.Get_library_version().split("\x00")[0])[:100]
    except (ImportError, RuntimeError) as error:
        found["MPI"] = f"not available: {one_line(str(error))}"
    try:
        import torch

        count = torch.cuda.device_count()
        found["devices"] = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "cpu"
    except ImportError:
        found["devices"] = "torch is not installed: pip install 'hpcfsl[run]'"
    return found


def _run(
    path: Path, folder: RunFolder, overrides: tuple[str, ...], communicator: Communicator, watch: Stopwatch
) -> Status:
    config = agree(communicator, lambda: load(path, overrides))
    watch.set_deadline(config.run.deadline_seconds)
    with make_listener(communicator.rank == 0) as listener:
        return simulate(config, folder, communicator, listener=listener, watch=watch)


def _fail(folder: RunFolder, communicator: Communicator, watch: Stopwatch, error: BaseException) -> None:
    """Write down what happened on this rank and end all ranks."""
    code = 2 if isinstance(error, UserError) else 1
    where = f"rank {communicator.rank}, phase {watch.current}"
    print(f"hpcfsl: {where}: {one_line(f'{type(error).__name__}: {error}')}", file=sys.stderr)
    if code == 1:
        traceback.print_exception(error)
    try:
        record = {"failure": one_line(str(error)), "type": type(error).__name__, "rank": communicator.rank, "phase": watch.current}
        if folder.config.exists():
            folder.add_progress(json.dumps(record))
            folder.set_status("failed")
    except (OSError, UserError) as second:
        print(f"hpcfsl: {where}: the failure could not be written down: {one_line(str(second))}", file=sys.stderr)
    sys.stderr.flush()
    if communicator.size > 1:
        communicator.abort(code)
