"""The communicator of a run under `mpirun`: the only module that imports mpi4py.

Buffers go through MPI directly; small objects (metadata of a round, names of files) through mpi4py's pickles, which
only ever carry what another rank of the same program made.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.communicator import Communicator, SerialCommunicator
from hpcfsl.parallel.packing import Columns, pack, unpack
from hpcfsl.provenance import node_name

T = TypeVar("T")

# What a launcher says of the number of ranks it started: Open MPI, MPICH and Intel MPI (Hydra), Cray PALS, MVAPICH, and
# Slurm's srun, which says so only to the tasks of a step, not to a batch script.
SRUN = "SLURM_STEP_NUM_TASKS"
LAUNCHER_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PALS_SIZE", "MV2_COMM_WORLD_SIZE", SRUN)
# Launchers of the PMIx standard number their ranks, and need not say how many there are.
PMIX_RANK = "PMIX_RANK"
_FITTING = {SRUN: "srun --mpi=pmix or --mpi=pmi2, whichever fits, or the mpirun"}
_LAST_WORDS_SECONDS = 1.0
_MEETING_SECONDS = 1800.0
_COLUMNS = 1  # tag of packed columns


class MpiCommunicator:
    """The ranks of MPI's world."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._world = MPI.COMM_WORLD
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()
        # By name: MPI's own split takes every rank for a node of its own under some launchers (srun without binding).
        nodes = self._world.allgather(node_name())
        self._node = self._world.Split(nodes.index(nodes[self.rank]), self.rank)
        self.local_rank: int = self._node.Get_rank()
        self.local_size: int = self._node.Get_size()
        self.library: str = _name_library(MPI)

    def barrier(self) -> None:
        """Collective. Wait until every rank has arrived."""
        self._world.Barrier()

    def broadcast(self, value: T) -> T:
        """Collective. Return root's `value` on every rank."""
        result: T = self._world.bcast(value, root=0)
        return result

    def broadcast_on_node(self, value: T) -> T:
        """Collective. Return the `value` of the node's first rank on every rank of the node."""
        result: T = self._node.bcast(value, root=0)
        return result

    def gather_all(self, value: T) -> list[T]:
        """Collective. Return every rank's `value`, in the order of ranks, on every rank."""
        return list(self._world.allgather(value))

    def gather_root(self, value: T) -> list[T]:
        """Collective. Return every rank's `value`, in the order of ranks, on root; an empty list elsewhere."""
        return list(self._world.gather(value, root=0) or [])

    def gather_columns(self, columns: Mapping[str, NDArray[Any]]) -> list[Columns]:
        """Collective. Return every rank's `columns`, in the order of ranks, on root; an empty list elsewhere."""
        if self.rank != 0:
            self._world.Send(pack(columns), dest=0, tag=_COLUMNS)
            return []
        return [dict(columns), *(unpack(self._receive_bytes(source)) for source in range(1, self.size))]

    def _receive_bytes(self, source: int) -> NDArray[np.uint8]:
        status = self._mpi.Status()
        self._world.Probe(source, _COLUMNS, status)
        message = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
        self._world.Recv(message, source, _COLUMNS)
        return message

    def sum_in_place(self, values: NDArray[np.int64]) -> None:
        """Collective. Replace `values` by their sum over ranks."""
        self._world.Allreduce(self._mpi.IN_PLACE, values, op=self._mpi.SUM)

    def sum_floats_in_place(self, values: NDArray[np.float32]) -> None:
        """Collective. Replace `values` by their sum over ranks, added in the order that the library chooses."""
        self._world.Allreduce(self._mpi.IN_PLACE, values, op=self._mpi.SUM)

    def max_in_place(self, values: NDArray[np.int64]) -> None:
        """Collective. Replace `values` by their maximum over ranks."""
        self._world.Allreduce(self._mpi.IN_PLACE, values, op=self._mpi.MAX)

    def exchange(self, parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Collective. Send `parts[r]` to rank r; return what each rank sent here."""
        shapes = self._world.alltoall([part.shape for part in parts])
        received = [np.empty(shape, parts[0].dtype) for shape in shapes]
        requests = [self._world.Irecv(part, source=source) for source, part in enumerate(received)]
        requests += [self._world.Isend(np.ascontiguousarray(part), dest=target) for target, part in enumerate(parts)]
        self._mpi.Request.Waitall(requests)
        return received

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        # Open MPI may kill the ranks before it has read what this one printed last.
        time.sleep(_LAST_WORDS_SECONDS)
        self._world.Abort(code)


def find_launcher() -> tuple[str, int] | None:
    """Return the variable by which a launcher shows, and how many ranks there are at least; None where none shows."""
    for name in (*LAUNCHER_SIZES, PMIX_RANK):
        text = os.environ.get(name, "")
        if text.isdigit():
            return name, int(text) + (name == PMIX_RANK)
    return None


def connect() -> Communicator:
    """Collective. Return the communicator of this process: MPI's world under a launcher, else one rank.

    Raises:
        UserError: A launcher started N ranks but MPI sees one (it belongs to another MPI), or mpi4py does not load.
    """
    found = find_launcher()
    # A step of one task, such as the shell that salloc opens, offers MPI no way to start.
    if found is None or found == (SRUN, 1):
        return SerialCommunicator()
    name, expected = found
    # Before the ranks have met nobody can say which of them is missing.
    faulthandler.dump_traceback_later(_MEETING_SECONDS, exit=True, file=sys.__stderr__ or 2)
    try:
        world = MpiCommunicator()
    except (ImportError, RuntimeError) as error:
        problem = f"started by an MPI launcher, but mpi4py does not load ({error}): install hpcfsl[run]"
        raise UserError(one_line(problem)) from None
    finally:
        faulthandler.cancel_dump_traceback_later()
    if world.size < expected or (world.size > expected and name != PMIX_RANK):
        least = "at least " if name == PMIX_RANK else ""
        raise UserError(
            f"the launcher started {least}{expected} ranks, but MPI sees {world.size}: launcher and mpi4py use "
            f"different MPI libraries; use {_FITTING.get(name, 'the mpirun')} of the MPI that `hpcfsl info` names"
        )
    return world


def describe_library() -> str:
    """Return the name and version of the MPI library that mpi4py loads, or why it loads none."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return f"not available: {one_line(str(error))}"
    return _name_library(MPI)


def _name_library(mpi: Any) -> str:
    return one_line(mpi.Get_library_version().split("\x00")[0])[:100]
