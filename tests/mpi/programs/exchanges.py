"""Calls every method of the communicator and holds what it returns against what it must; prints one line a rank."""

from __future__ import annotations

import sys

import numpy as np

from hpcfsl.errors import DataError
from hpcfsl.parallel.communicator import AgreedError, agree
from hpcfsl.parallel.mpi import connect

ranks = connect()
me, size = ranks.rank, ranks.size
assert size == int(sys.argv[1])
assert 0 <= me < size
assert (ranks.local_rank, ranks.local_size) == (me, size)  # all on this machine

ranks.barrier()
assert ranks.broadcast({"from": me}) == {"from": 0}
assert ranks.broadcast_on_node({"from": me}) == {"from": 0}
assert ranks.gather_all((me, "x" * me)) == [(rank, "x" * rank) for rank in range(size)]
assert ranks.gather_root(me) == (list(range(size)) if me == 0 else [])

# Rank r sends r rows, and rank 1 no columns at all; large enough for more than MPI's eager messages.
rows = {"name": np.full(50_000 * me, me, np.int32), "wide": np.full((50_000 * me, 3), me + 0.5), "b": np.full(me, b"x")}
parts = ranks.gather_columns({} if me == 1 else rows)
assert len(parts) == (size if me == 0 else 0)
for rank, part in enumerate(parts):
    assert list(part) == ([] if rank == 1 else ["name", "wide", "b"])
    if part:
        assert part["name"].tolist() == [rank] * (50_000 * rank)
        assert part["name"].dtype == np.int32
        assert part["wide"].shape == (50_000 * rank, 3)
        assert (part["wide"] == rank + 0.5).all()
        assert part["b"].tolist() == [b"x"] * rank

for shape in ((), (0,), (5,), (3, 4)):
    values = np.full(shape, me + 1, np.int64)
    ranks.sum_in_place(values)
    assert values.shape == shape
    assert (values == size * (size + 1) // 2).all()
    values = np.full(shape, -me, np.int64)
    ranks.max_in_place(values)
    assert (values == 0).all()

floats = np.full(3, 0.5 + me, np.float32)
ranks.sum_floats_in_place(floats)
assert (floats == 0.5 * size + size * (size - 1) // 2).all()  # few bits: exact in any order

# The sum of wide numbers is exact, and wraps nowhere.
wide = np.array([2**61 // size * (-1) ** me, 2**53 + me], np.int64)
ranks.sum_in_place(wide)
assert wide[0] == (2**61 // size if size % 2 else 0)
assert wide[1] == size * 2**53 + size * (size - 1) // 2

# Rank s sends rank t an array of s + t rows of its own number: sizes differ, and some are empty.
for dtype in (np.float32, np.float64, np.int64):
    received = ranks.exchange([np.full((me + target, 3), me, dtype) for target in range(size)])
    assert [part.shape for part in received] == [(me + source, 3) for source in range(size)]
    assert all((part == source).all() and part.dtype == dtype for source, part in enumerate(received))

# Parts may be views that are not contiguous, and larger than what MPI sends eagerly.
table = np.arange(200_000 * size, dtype=np.float64).reshape(200_000, size) + me
received = ranks.exchange([table[:, target] for target in range(size)])
assert all((part == np.arange(200_000) * size + me + source).all() for source, part in enumerate(received))

assert agree(ranks, lambda: me) == me


def mistake() -> None:
    if me == size - 1:
        raise DataError(f"only rank {me} has this")


told = ""
try:
    agree(ranks, mistake)
except AgreedError as error:
    told = str(error)
assert told == f"only rank {size - 1} has this"
print(f"rank {me} of {size} is content")
