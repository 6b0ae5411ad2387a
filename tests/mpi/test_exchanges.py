from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.mpirun import run_ranks

PROGRAM = Path(__file__).parent / "programs" / "exchanges.py"


@pytest.mark.parametrize("mpi", ["own", "mpich", "system"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_every_method_of_the_communicator(size: int, mpi: str) -> None:
    ended = run_ranks(size, PROGRAM, str(size), mpi=mpi)
    assert ended.code == 0, ended.stderr
    expected = [f"rank {rank} of {size} is content" for rank in range(size)]
    # Not lines: MPICH forwards what ranks print as it comes.
    assert sorted(re.findall(r"rank \d+ of \d+ is content", ended.stdout)) == expected
