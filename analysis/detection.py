"""How well attackers were told from honest clients, round by round and overall.

For each run: true positive rate (attackers' updates excluded), false positive rate (honest updates excluded) and the
area under the ROC curve of the credit scores, which judges the score whatever the threshold. Takes about a second for
200,000 rows (2,000 clients, 100 rounds). Only simulated attackers are known, so a real federation gives dashes.

    python analysis/detection.py runs/sign-flip runs/label-flip
    python analysis/detection.py runs/sign-flip --csv rounds.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hpcfsl
from hpcfsl.report.measures import excluded, rates, roc_auc, rows_by_round

COLUMNS = ("run", "round", "attackers", "honest", "true_positive_rate", "false_positive_rate", "roc_auc")
WIDTHS = (24, 7, 11, 9, 20, 21, 9)
Row = tuple[str, str, int, int, float, float, float]


def measure(run: hpcfsl.Run) -> list[Row]:
    """Return one row a round and a last one, round `all`, over all of them; NaN where there is nothing to count."""
    names = ("round", "credit_score", "status", "attacker")
    round, score, status, attacker = (run.column("participation", name) for name in names)
    out = excluded(status)
    parts = [*rows_by_round(round, run.rounds_done), slice(None)]
    labels = [*map(str, range(run.rounds_done)), "all"]
    found = []
    for label, rows in zip(labels, parts, strict=True):
        counted = rates(attacker[rows], out[rows])
        area = roc_auc(score[rows], attacker[rows])
        shares = (counted.true_positive, counted.false_positive, area)
        found.append((run.path.name, label, counted.attackers, counted.honest, *shares))
    return found


def as_text(row: Row) -> str:
    """Return a row as aligned text, a dash for what is unknown."""
    values = ("-" if np.isnan(value) else f"{value:.3f}" for value in row[4:])
    return "".join(f"{value!s:>{width}}" for value, width in zip((*row[:4], *values), WIDTHS, strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and print the totals; with --csv write every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--csv", type=Path, help="write one row a round here")
    given = parser.parse_args(arguments)
    rows = [measure(hpcfsl.open(path)) for path in given.runs]
    header = "".join(f"{name:>{width}}" for name, width in zip(COLUMNS, WIDTHS, strict=True))
    sys.stdout.write(header + "\n" + "".join(as_text(found[-1]) + "\n" for found in rows))
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(row for found in rows for row in found)


if __name__ == "__main__":
    main()
