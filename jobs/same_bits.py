"""Runs configurations one after another, and prints the table of their digests; jobs/same_bits.sh calls it.

`same_bits.py run OUT CONFIG... [--set SECTION.KEY=VALUE ...]` on every rank: Python starts once for all of them;
`same_bits.py wait FOLDER LINES` until a run has written so many rounds;
`same_bits.py table OUT NAME...` prints Markdown and ends with 1 where a digest differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import hpcfsl
from hpcfsl.trace.compare import compare
from hpcfsl.trace.digest import digest


class WithoutSettings:
    """A run without its record of the settings: for settings that a digest covers and that must not change a bit."""

    def __init__(self, run: hpcfsl.Run) -> None:
        self._run, self.result_settings = run, ""

    def __getattr__(self, name: str) -> object:
        return getattr(self._run, name)

    def segments(self, table: str, names: tuple[str, ...]) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield a table's parts, the hash of the settings set to 0."""
        for part in self._run.segments(table, names):
            yield {name: 0 * part[name] if name == "settings_hash" else part[name] for name in names}


def run(out: Path, configs: list[Path], overrides: list[str]) -> None:
    """Collective. Run every configuration into a folder of `out` that is named like its file."""
    from hpcfsl.config import load

    for path in configs:
        hpcfsl.run(load(path, tuple(overrides)), out=out / path.stem)


def wait(folder: Path, lines: int) -> None:
    """Return once a run has written so many lines of progress; end with 1 after two minutes."""
    for _ in range(6000):
        if (folder / "progress.jsonl").exists() and (folder / "progress.jsonl").read_text().count("\n") >= lines:
            return
        time.sleep(0.02)
    sys.exit(f"error: {folder} did not get on in two minutes")


def table(out: Path, rows: list[str]) -> int:
    """Print the digests of all configurations by row; return 1 where one is unlike that of the first row."""
    names = sorted(path.name for path in (out / rows[0]).iterdir())
    print("| | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    differences: list[str] = []
    for row in rows:
        cells = []
        for name in (name for name in names if (out / row / name).exists() or row == rows[0]):
            first, found = hpcfsl.open(out / rows[0] / name), hpcfsl.open(out / row / name)
            cells.append(_cell(first, found, differences, f"{row}, {name}"))
        if cells:
            print(f"| {row} | " + " | ".join(cells) + " |")
    print("\n" + ("\n".join(differences) or "all equal"))
    return 1 if differences else 0


def _cell(first: hpcfsl.Run, found: hpcfsl.Run, differences: list[str], where: str) -> str:
    """Return what the table says of one run."""
    code, wanted = digest(found), digest(first)
    if found.result_settings != first.result_settings:
        # Not a Run by its type, but it answers all that a Run does.
        code, wanted = (digest(WithoutSettings(each)) for each in (found, first))  # type: ignore[arg-type]
    if code == wanted:
        return f"equal `{code[:12]}`"
    difference = compare(first, found)
    differences.append(f"{where}: {difference.text if difference else 'settings'}")
    return f"**differs** `{code[:12]}`"


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("out", type=Path)
    runs.add_argument("configs", nargs="+", type=Path)
    runs.add_argument("--set", dest="overrides", action="append", default=[])
    waits = commands.add_parser("wait")
    waits.add_argument("folder", type=Path)
    waits.add_argument("lines", type=int)
    tables = commands.add_parser("table")
    tables.add_argument("out", type=Path)
    tables.add_argument("rows", nargs="+")
    given = parser.parse_args()
    if given.command == "run":
        run(given.out, given.configs, given.overrides)
    elif given.command == "wait":
        wait(given.folder, given.lines)
    else:
        return table(given.out, given.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
