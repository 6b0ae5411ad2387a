"""Print how much of each layer the tests execute, lines and branches; fail where layers 0 to 3 fall short of the floor.

`jobs/test.sh` runs it on the output of `coverage json`. The layers are those of setup.cfg, the same that import-linter
holds: the first line there is the topmost.
"""

from __future__ import annotations

import configparser
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

FLOOR = 90.0
TOP_LAYER_WITH_FLOOR = 3
COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def layers() -> list[list[str]]:
    """Return the rooms and modules of each layer, from layer 0 up."""
    config = configparser.ConfigParser()
    config.read("setup.cfg")
    rows = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip(" ()") for name in row.replace("|", ":").split(":")] for row in reversed(rows)]


def totals(summaries: Iterable[dict[str, float]]) -> Counter[str]:
    """Return the sums of coverage's counts over some files."""
    sums: Counter[str] = Counter()
    for summary in summaries:
        sums.update({name: int(value) for name, value in summary.items() if name in COUNTS})
    return sums


def shares(sums: Mapping[str, float]) -> tuple[float, float]:
    """Return the executed lines and branches in percent; all of nothing is 100."""
    pairs = ((sums["covered_lines"], sums["num_statements"]), (sums["covered_branches"], sums["num_branches"]))
    lines, branches = (100.0 * part / whole if whole else 100.0 for part, whole in pairs)
    return lines, branches


def print_row(name: str, sums: Mapping[str, float], *, floor: float) -> bool:
    """Print one line; return whether a share is below the floor."""
    lines, branches = shares(sums)
    low = min(lines, branches) < floor
    print(f"{name}: lines {lines:5.1f} %, branches {branches:5.1f} %" + (f"  below {floor:.0f} %" if low else ""))
    return low


def main(path: str) -> int:
    """Print one row a layer, and the weak files of those that miss the floor; return the exit status."""
    files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    short = False
    for number, rooms in enumerate(layers()):
        ours = {name: row["summary"] for name, row in files.items() if Path(name).with_suffix("").parts[1] in rooms}
        floor = FLOOR if number <= TOP_LAYER_WITH_FLOOR else 0.0
        if print_row(f"layer {number} ({', '.join(rooms)})", totals(ours.values()), floor=floor):
            short = True
            for name, summary in ours.items():
                if min(shares(summary)) < floor:
                    print_row(f"    {name}", summary, floor=floor)
    return int(short)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
