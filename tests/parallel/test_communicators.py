from __future__ import annotations

import numpy as np
import pytest
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.errors import ConfigError, UserError
from hpcfsl.parallel.communicator import AgreedError, SerialCommunicator, agree


def exercise(communicator: SerialCommunicator | ThreadCommunicator) -> None:
    """Hold a communicator to what `Communicator` promises."""
    rank, size = communicator.rank, communicator.size
    communicator.barrier()
    assert communicator.broadcast(("of", rank)) == ("of", 0)
    assert communicator.gather_all(rank * 10) == [r * 10 for r in range(size)]
    assert communicator.gather_root(rank) == (list(range(size)) if rank == 0 else [])
    columns = communicator.gather_columns({"rank": np.full(rank, rank)})
    assert [part["rank"].tolist() for part in columns] == ([[r] * r for r in range(size)] if rank == 0 else [])
    total = np.array([rank, 1], np.int64)
    communicator.sum_in_place(total)
    assert total.tolist() == [size * (size - 1) // 2, size]
    floats = np.array([0.5, rank], np.float32)
    communicator.sum_floats_in_place(floats)
    assert floats.tolist() == [0.5 * size, size * (size - 1) // 2]
    most = np.array([rank, -rank], np.int64)
    communicator.max_in_place(most)
    assert most.tolist() == [size - 1, 0]
    parts = communicator.exchange([np.full((1, r + 1), 100 * rank + r) for r in range(size)])
    assert [part.tolist() for part in parts] == [[[100 * r + rank] * (rank + 1)] for r in range(size)]


def test_the_serial_communicator() -> None:
    exercise(SerialCommunicator())
    assert SerialCommunicator().local_rank == 0
    with pytest.raises(SystemExit) as left:
        SerialCommunicator().abort(3)
    assert left.value.code == 3


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_ranks_of_these_tests(size: int) -> None:
    on_ranks(size, exercise)


def test_agreeing_on_success_returns_each_ranks_own_result() -> None:
    assert on_ranks(3, lambda communicator: agree(communicator, lambda: communicator.rank)) == [0, 1, 2]


def test_one_ranks_mistake_is_everybodys() -> None:
    def action(communicator: ThreadCommunicator) -> str:
        def fail() -> None:
            if communicator.rank > 0:
                raise ConfigError("run.rounds", communicator.rank, "no")

        with pytest.raises(AgreedError) as found:
            agree(communicator, fail)
        return str(found.value)

    assert on_ranks(3, action) == ["run.rounds = 1: no"] * 3
    assert issubclass(AgreedError, UserError)


def test_a_defect_is_not_agreed_on() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agree(SerialCommunicator(), fail)
