"""Starts a run from the command line on every rank, and says how it ended.

Layer 5. Only root prints what all ranks know; what happens on one rank alone, that rank prints before it ends the
others (`hpcfsl.parallel.failure`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from hpcfsl.config import load
from hpcfsl.display import make_listener, print_result
from hpcfsl.errors import UserError, one_line
from hpcfsl.native.library import instruction_set
from hpcfsl.parallel.communicator import AgreedError, Communicator, agree
from hpcfsl.parallel.failure import failing_together
from hpcfsl.parallel.mpi import connect, describe_library
from hpcfsl.provenance import package_versions, processor_name
from hpcfsl.simulation import simulate
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder, Status
from hpcfsl.trace.reader import open as open_run


def launch(path: Path, out: Path, overrides: tuple[str, ...]) -> int:
    """Collective. Run a configuration and return the exit status.

    0 done, 2 a user's mistake, 3 stopped on request, 130 interrupted from the keyboard; other failures raise.

    Args:
        path: The configuration file.
        out: The run folder.
        overrides: `section.key=value` settings.
    """
    communicator, folder, watch = connect(), RunFolder(out), Stopwatch()
    try:
        with failing_together(folder, communicator, watch) as ranks:
            try:
                status = _run(path, folder, overrides, ranks, watch)
            except AgreedError as error:
                text = _line(error)
                return _leave(ranks, 2, lambda: print(text, file=sys.stderr))
            return _leave(ranks, 0 if status == "finished" else 3, lambda: print_result(open_run(out), status))
    except UserError as error:  # of one rank alone, which has nobody to leave with
        print(_line(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hpcfsl: interrupted; the same command continues the run", file=sys.stderr)
        return 130


def describe_machine() -> dict[str, str]:
    """Return what `hpcfsl info` prints."""
    found = {"processor": processor_name(), "cores": str(os.cpu_count())}
    found |= package_versions()
    found["MPI"] = describe_library()
    try:
        import torch

        count = torch.cuda.device_count()
        each = (f"cuda:{i} {torch.cuda.get_device_name(i)} (for rank {i} of this node)" for i in range(count))
        found["devices"] = ", ".join(each) or "cpu"
    except ImportError:
        found["devices"] = "torch is not installed: pip install 'hpcfsl[run]'"
    found["kernels"] = _describe_kernels()
    return found


def _describe_kernels() -> str:
    name = instruction_set()
    if name == "none":
        return "none, so training uses torch: install a C++ compiler, then hpcfsl again"
    return f"{name}, in which executor 'native' trains on the processor"


def _line(error: UserError) -> str:
    return f"hpcfsl: {one_line(str(error))}"


def _run(
    path: Path, folder: RunFolder, overrides: tuple[str, ...], communicator: Communicator, watch: Stopwatch
) -> Status:
    config = agree(communicator, lambda: load(path, overrides))
    watch.set_deadline(config.run.deadline_seconds)
    return simulate(config, folder, communicator, listener=make_listener(communicator.rank == 0), watch=watch)


def _leave(communicator: Communicator, code: int, tell: Callable[[], None]) -> int:
    """Collective. Let root tell how it ended, then return `code` on all ranks.

    Launchers kill the other ranks once one ends with a status that is not 0, so nobody leaves before root is done.
    """
    if communicator.rank == 0:
        tell()
        sys.stdout.flush()
        sys.stderr.flush()
    communicator.barrier()
    return code
