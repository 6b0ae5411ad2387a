"""Makes sure that one rank's failure ends all ranks.

Layer 3. An exception on one rank would leave the others waiting in a collective for ever. So whatever escapes is
said and written down by the rank that it happened on, and that rank then ends the whole job; a watchdog ends a job in
which nothing is raised and nothing gets on.
"""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import time
import traceback
from collections.abc import Iterator

from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.attendance import attended
from hpcfsl.parallel.communicator import AgreedError, Communicator
from hpcfsl.parallel.failure_record import record_failure
from hpcfsl.parallel.heartbeat import place_text
from hpcfsl.parallel.watchdog import Watchdog
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder, Status

# A failing rank that cannot write its failure down, or cannot reach the launcher, ends by itself after so long.
_LAST_SECONDS = 15.0
_OUT_OF_MEMORY = "; lower training.chunk_clients, run.hold_mib or trace.buffer_mib, or start fewer ranks on this node"


class SharedFailureError(RuntimeError):
    """A failure that every rank raises, as all know of it: root speaks for all."""


@contextlib.contextmanager
def failing_together(folder: RunFolder, communicator: Communicator, watch: Stopwatch) -> Iterator[Communicator]:
    """Yield the ranks; end all of them when an exception leaves the context on this one, or when they hang.

    On one rank alone a failure is only recorded, and raised on. An `AgreedError` passes: every rank raises it, so all
    of them leave in order.
    """
    watchdog = Watchdog(folder, communicator, watch)
    watchdog.start()
    try:
        yield communicator if communicator.size == 1 else attended(communicator, watch)
    except AgreedError:
        raise
    except BaseException as error:
        if isinstance(error, SharedFailureError) and communicator.rank != 0:
            time.sleep(_LAST_SECONDS)  # root ends all of them
        where = f"rank {communicator.rank}, phase {place_text(watch.current, watch.round, watch.group)}"
        if communicator.size > 1:
            _end_all(folder, communicator, watch, where, error)
        _record(folder, communicator, watch, where, error)
        if isinstance(error, SystemExit):
            print(f"hpcfsl: {where}: {describe(error)}", file=sys.stderr)
            raise SystemExit(1) from error
        error.add_note(f"hpcfsl: {where}")
        raise
    finally:
        watchdog.stop()


def describe(error: BaseException) -> str:
    """Return an exception on one line, with what to do about it where that is known."""
    if isinstance(error, SystemExit):
        return f"SystemExit: sys.exit({error.code!r}) in the middle of the run"
    text = one_line(f"{type(error).__name__}: {error}").removesuffix(":")
    return text + _OUT_OF_MEMORY if is_out_of_memory(error) else text


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory, of the processor or of a GPU, did not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # torch has no class of its own for the processor's memory.
    said = ("not enough memory", "out of memory", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def _end_all(folder: RunFolder, communicator: Communicator, watch: Stopwatch, where: str, error: BaseException) -> None:
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(_LAST_SECONDS, exit=True, file=sys.__stderr__)
    print(f"hpcfsl: {where}: {describe(error)}", file=sys.stderr)
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    sys.stderr.flush()
    _record(folder, communicator, watch, where, error)
    communicator.abort(2 if isinstance(error, UserError) else 1)


def _record(folder: RunFolder, communicator: Communicator, watch: Stopwatch, where: str, error: BaseException) -> None:
    status: Status = "resumable" if isinstance(error, KeyboardInterrupt) else "failed"
    text = describe(error) if isinstance(error, SystemExit) or not str(error) else str(error)
    problem = record_failure(folder, communicator.rank, watch, kind=type(error).__name__, text=text, status=status)
    if problem is not None:
        print(f"hpcfsl: {where}: the failure could not be written down: {problem}", file=sys.stderr, flush=True)
