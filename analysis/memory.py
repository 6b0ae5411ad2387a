"""What each rank holds in memory before its first round, and what each rank more costs a node: one row of a table.

Use it to choose how many ranks a node has room for: `mpirun -n 4 python analysis/memory.py CONFIG`. The figures are the
kernel's (/proc/PID/smaps_rollup), in MB: the sum of all ranks' proportional sets (PSS) is what the node holds; the
unique set (USS) of a rank is what it adds, because pages of libraries and of shared data are there once for all ranks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hpcfsl.simulation  # noqa: F401  # loads what a run loads
from hpcfsl.config import load
from hpcfsl.parallel.mpi import connect
from hpcfsl.world import build_world


def read_memory() -> dict[str, float]:
    """Return the kernel's account of this process, MB by name, and the sum of its private pages as `Uss`."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    found = {name: int(rest.split()[0]) * 1024 / 1e6 for name, rest in (line.split(":", 1) for line in lines)}
    return {**found, "Uss": found["Private_Clean"] + found["Private_Dirty"]}


def main() -> None:
    """Collective. Build the world of a run, measure, print on root."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE")
    given = parser.parse_args()
    ranks = connect()
    world = build_world(load(given.config, tuple(given.overrides)), ranks)
    dataset = world.feed.dataset
    for array in (dataset.inputs, dataset.targets, dataset.test_inputs, dataset.test_targets):
        if array is not None:
            array.max()  # touches every page
    ranks.barrier()
    held = ranks.gather_all(read_memory())
    if ranks.rank == 0:
        others = [each["Uss"] for each in held[1:]]
        further = f"{sum(others) / len(others):.0f}" if others else ""
        node = sum(each["Pss"] for each in held)
        print("| ranks | data shared | RSS of rank 0 | USS of rank 0 | USS of each further rank | node |")
        print("|---|---|---|---|---|---|")
        shared = "yes" if world.config.run.share_data else "no"
        print(f"| {ranks.size} | {shared} | {held[0]['Rss']:.0f} | {held[0]['Uss']:.0f} | {further} | {node:.0f} |")


if __name__ == "__main__":
    main()
