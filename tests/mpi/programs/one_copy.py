"""Builds a world on every rank and holds its memory against what one copy of the data a node must take.

With the path of a folder, the data lies in mapped files there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpcfsl.config import resolve
from hpcfsl.parallel.mpi import connect
from hpcfsl.world import build_world


def memory_of_maps() -> dict[str, int]:
    """Return this process's kB in the shared file, by the kernel's names: Rss, Pss and so on."""
    found: dict[str, int] = {}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key.isalnum():
            if inside and rest.endswith("kB"):
                found[key] = found.get(key, 0) + int(rest.split()[0])
        else:
            inside = (folder or "memfd:hpcfsl-data") in line
    return found


folder = sys.argv[1] if len(sys.argv) > 1 else ""
ranks = connect()
shape = [1, 32, 32]
data = {"source": "synthetic", "shape": shape, "samples": 4000, "test_samples": 1000, "owners": 10}
world = build_world(resolve({"run": {"data_cache": folder}, "data": data, "model": {"name": "mlp"}}), ranks)
assert not world.warnings
assert world.feed.dataset.inputs.sum() != 0  # touches every page
assert world.feed.dataset.test_inputs.sum() != 0
assert not world.feed.dataset.inputs.flags.writeable
ranks.barrier()
found = memory_of_maps()
ranks.barrier()
assert found["Rss"] * 1024 >= 5000 * 1024 * world.feed.dataset.inputs.itemsize
assert found["Pss"] <= found["Rss"] / ranks.size * 1.2 + 64, found
print(f"rank {ranks.rank} of {ranks.size} holds its part")
