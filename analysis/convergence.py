"""Accuracy curves of several runs, as a table for other programs and as a picture for a paper.

Give it runs that differ in one setting. Takes two seconds and a tenth of one a run:

    python analysis/convergence.py runs/hardened runs/averaging --csv curves.csv --png curves.png

Without --csv and --png it prints the best and last accuracy and when --target was reached. --png needs matplotlib.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hpcfsl


def curve(run: hpcfsl.Run, metric: str) -> tuple[list[int], list[float]]:
    """Return the rounds in which a metric is known, and its values."""
    values = run.column("rounds", metric)
    known = np.flatnonzero(np.isfinite(values))
    return known.tolist(), values[known].tolist()


def describe(run: hpcfsl.Run, target: float) -> str:
    """Return one line: best, last, and the first round at or above `target`."""
    rounds, values = curve(run, "test_accuracy")
    if not values:
        return f"{run.path.name}: not evaluated"
    reached = next((round for round, value in zip(rounds, values, strict=True) if value >= target), None)
    where = "never" if reached is None else f"in round {reached}"
    return f"{run.path.name}: best {max(values):.4f}, last {values[-1]:.4f}, reached {target:g} {where}"


def write_csv(runs: Sequence[hpcfsl.Run], metric: str, path: Path) -> None:
    """Write rows run, round, value: the long form that pandas and R read without more ado."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("run", "round", metric))
        for run in runs:
            writer.writerows((run.path.name, *row) for row in zip(*curve(run, metric), strict=True))


def write_png(runs: Sequence[hpcfsl.Run], metric: str, path: Path) -> None:
    """Draw one line a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="round", ylabel=metric)
    for run in runs:
        axes.plot(*curve(run, metric), label=run.path.name)
    figure.legend(loc="outside upper left", ncols=3, frameon=False)
    figure.savefig(path, dpi=200)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--metric", choices=("test_accuracy", "test_loss", "train_loss"), default="test_accuracy")
    parser.add_argument("--target", type=float, default=0.9, help="test accuracy to look for")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--png", type=Path)
    given = parser.parse_args(arguments)
    runs = [hpcfsl.open(path) for path in given.runs]
    if given.csv:
        write_csv(runs, given.metric, given.csv)
    if given.png:
        write_png(runs, given.metric, given.png)
    if not (given.csv or given.png):
        print(*(describe(run, given.target) for run in runs), sep="\n")


if __name__ == "__main__":
    main()
