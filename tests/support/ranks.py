"""Ranks as threads of this process, for everything that is collective."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from hpcfsl.parallel.packing import pack, unpack

T = TypeVar("T")


class ThreadCommunicator:
    """One rank of a `Communicator`; its peers are other threads."""

    library = "threads"

    def __init__(self, rank: int, posts: list[Any], barrier: threading.Barrier, ranks_per_node: int = 0) -> None:
        self.rank, self.size = rank, len(posts)
        each = ranks_per_node or self.size
        self.local_rank, self.local_size = rank % each, min(each, self.size - rank // each * each)
        self._posts, self._barrier = posts, barrier

    def barrier(self) -> None:
        self._barrier.wait()

    def gather_all(self, value: Any) -> list[Any]:
        self._posts[self.rank] = value
        self.barrier()
        found = list(self._posts)
        self.barrier()
        return found

    def gather_root(self, value: Any) -> list[Any]:
        found = self.gather_all(value)
        return found if self.rank == 0 else []

    def broadcast(self, value: Any) -> Any:
        return self.gather_all(value)[0]

    def broadcast_on_node(self, value: Any) -> Any:
        return self.gather_all(value)[self.rank - self.local_rank]

    def gather_columns(self, columns: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        return [unpack(message) for message in self.gather_root(pack(columns))]

    def sum_in_place(self, values: np.ndarray) -> None:
        values[...] = sum(self.gather_all(values.copy()))

    def sum_floats_in_place(self, values: np.ndarray) -> None:
        self.sum_in_place(values)

    def max_in_place(self, values: np.ndarray) -> None:
        values[...] = np.max(self.gather_all(values.copy()), axis=0)

    def exchange(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        return [sent[self.rank] for sent in self.gather_all(parts)]

    def abort(self, code: int) -> None:
        self._barrier.abort()


def on_ranks(size: int, action: Callable[[ThreadCommunicator], T], *, ranks_per_node: int = 0) -> list[T]:
    """Call `action` on every rank at once; return what each returned, or raise the first rank's exception.

    All ranks are on one node unless `ranks_per_node` says otherwise.
    """
    posts: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=60)
    results: list[Any] = [None] * size
    raised: list[BaseException | None] = [None] * size

    def body(rank: int) -> None:
        try:
            results[rank] = action(ThreadCommunicator(rank, posts, barrier, ranks_per_node))
        except BaseException as error:
            raised[rank] = error
            if not isinstance(error, threading.BrokenBarrierError):
                barrier.abort()

    threads = [threading.Thread(target=body, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = [error for error in raised if error is not None]
    own = [error for error in problems if not isinstance(error, threading.BrokenBarrierError)]
    if problems:
        raise (own or problems)[0]
    return results
