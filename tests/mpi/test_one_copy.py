from __future__ import annotations

from pathlib import Path

from support.mpirun import run_ranks

PROGRAM = Path(__file__).parent / "programs" / "one_copy.py"


def test_the_ranks_of_a_node_hold_the_data_once() -> None:
    ended = run_ranks(3, PROGRAM)
    assert ended.code == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [f"rank {rank} of 3 holds its part" for rank in range(3)]
