"""What the ranks of a run say to each other, and the one-rank version of it.

The rest of the package speaks to this small interface and never to MPI itself: `SerialCommunicator` here is used when
no launcher started the program, `hpcfsl.parallel.mpi.MpiCommunicator` under `mpirun`. Every method is collective: all
ranks call it, in the same order, owners of no group included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpcfsl.errors import UserError

T = TypeVar("T")


class Communicator(Protocol):
    """A fixed set of ranks, 0 the root."""

    @property
    def rank(self) -> int:
        """This rank's number, in [0, size)."""
        ...

    @property
    def size(self) -> int:
        """The number of ranks."""
        ...

    @property
    def local_rank(self) -> int:
        """This rank's number among the ranks of its node."""
        ...

    @property
    def local_size(self) -> int:
        """The number of ranks on this rank's node."""
        ...

    @property
    def library(self) -> str:
        """The library that carries what the ranks say."""
        ...

    def barrier(self) -> None:
        """Collective. Wait until every rank has arrived."""
        ...

    def broadcast(self, value: T) -> T:
        """Collective. Return root's `value` (a small picklable object) on every rank."""
        ...

    def broadcast_on_node(self, value: T) -> T:
        """Collective. Return the `value` of the rank with `local_rank` 0 on every rank of its node."""
        ...

    def gather_all(self, value: T) -> list[T]:
        """Collective. Return every rank's `value`, in the order of ranks, on every rank."""
        ...

    def gather_root(self, value: T) -> list[T]:
        """Collective. Return every rank's `value`, in the order of ranks, on root; an empty list elsewhere."""
        ...

    def gather_columns(self, columns: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Collective. Return every rank's `columns`, in the order of ranks, on root; an empty list elsewhere.

        For many rows: arrays of numbers or fixed-length bytes travel as one message a rank, without a pickle.
        """
        ...

    def sum_in_place(self, values: NDArray[np.int64]) -> None:
        """Collective. Replace `values` (int64, one shape everywhere) by their sum over ranks."""
        ...

    def sum_floats_in_place(self, values: NDArray[np.float32]) -> None:
        """Collective. Replace `values` (float32, one shape everywhere) by their sum, whose bits depend on the ranks."""
        ...

    def max_in_place(self, values: NDArray[np.int64]) -> None:
        """Collective. Replace `values` (int64, one shape everywhere) by their maximum over ranks."""
        ...

    def exchange(self, parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Collective. Send `parts[r]` to rank r; return what each rank sent here, in the order of ranks."""
        ...

    def abort(self, code: int) -> None:
        """End all ranks at once with exit status `code`. Called by one rank that cannot go on."""
        ...


class SerialCommunicator:
    """The communicator of a run on one rank: every exchange is with itself."""

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1
    library = "none"

    def barrier(self) -> None:
        """Return at once."""

    def broadcast(self, value: T) -> T:
        """Return `value`."""
        return value

    def broadcast_on_node(self, value: T) -> T:
        """Return `value`."""
        return value

    def gather_all(self, value: T) -> list[T]:
        """Return `[value]`."""
        return [value]

    def gather_root(self, value: T) -> list[T]:
        """Return `[value]`."""
        return [value]

    def gather_columns(self, columns: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """Return `[columns]`."""
        return [dict(columns)]

    def sum_in_place(self, values: NDArray[np.int64]) -> None:
        """Leave `values` as they are."""

    def sum_floats_in_place(self, values: NDArray[np.float32]) -> None:
        """Leave `values` as they are."""

    def max_in_place(self, values: NDArray[np.int64]) -> None:
        """Leave `values` as they are."""

    def exchange(self, parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return `parts`."""
        return parts

    def abort(self, code: int) -> None:
        """Leave the process with exit status `code`."""
        raise SystemExit(code)


def agree(communicator: Communicator, action: Callable[[], T]) -> T:
    """Collective. Run `action` on every rank; if it raises `UserError` on any, raise the first rank's on all.

    Without this, ranks whose action succeeded would wait for ever for those whose did not.
    """
    result: T | None = None
    problem: UserError | None = None
    try:
        result = action()
    except UserError as error:
        problem = error
    for told in communicator.gather_all(None if problem is None else str(problem)):
        if told is not None:
            raise AgreedError(told) from problem
    return result  # type: ignore[return-value]  # set, as nobody had a problem


class AgreedError(UserError):
    """A user's mistake that every rank has heard of: all of them can leave in order."""
