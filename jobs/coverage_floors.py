"""Print how much of each layer the tests execute, lines and branches; fail where layers 0 to 3 fall short of the floor.

`jobs/test.sh` runs it on the output of `coverage json`. The layers are those of setup.cfg, the same that import-linter
holds: the first line there is the topmost.
"""

from __future__ import annotations

import configparser
import json
import sys
from collections import Counter
from pathlib import Path

FLOOR = 90.0
TOP_LAYER_WITH_FLOOR = 3


def layers() -> list[list[str]]:
    """Return the rooms and modules of each layer, from layer 0 up."""
    config = configparser.ConfigParser()
    config.read("setup.cfg")
    rows = config["importlinter:contract:layers"]["layers"].strip().splitlines()
    return [[name.strip(" ()") for name in row.replace("|", ":").split(":")] for row in reversed(rows)]


def totals(files: dict[str, dict[str, dict[str, int]]], rooms: list[str]) -> Counter[str]:
    """Return the sums of coverage's counts over the files of some rooms."""
    sums: Counter[str] = Counter()
    for path, record in files.items():
        if Path(path).with_suffix("").parts[1] in rooms:
            sums.update({name: int(value) for name, value in record["summary"].items() if name in COUNTS})
    return sums


COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def percent(part: int, whole: int) -> float:
    """Return the share in percent; all of nothing is 100."""
    return 100.0 * part / whole if whole else 100.0


def main(path: str) -> int:
    """Print one row a layer and return the exit status: 1 where a floor is missed."""
    files = json.loads(Path(path).read_text(encoding="utf-8"))["files"]
    short = False
    for number, rooms in enumerate(layers()):
        sums = totals(files, rooms)
        lines = percent(sums["covered_lines"], sums["num_statements"])
        branches = percent(sums["covered_branches"], sums["num_branches"])
        low = number <= TOP_LAYER_WITH_FLOOR and min(lines, branches) < FLOOR
        short = short or low
        note = f"  below {FLOOR:.0f} %" if low else ""
        print(f"layer {number}: lines {lines:5.1f} %, branches {branches:5.1f} %  ({', '.join(rooms)}){note}")
    return int(short)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
