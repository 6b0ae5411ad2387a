"""One line a case, mean and standard deviation over seeds: the table of a paper on robustness.

Run each case with several seeds into folders named CASE-SEED, then name them all. Takes a tenth of a second a run.

    for seed in 0 1 2; do
        hpcfsl run sign-flip.toml --out runs/sign-flip-$seed --set run.seed=$seed
    done
    python analysis/robustness.py runs/sign-flip-* runs/averaging-*

Runs that did not reach the same number of rounds are not compared: the script says so and ends with 2.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import hpcfsl
from hpcfsl.report.measures import excluded, rates, roc_auc

MEASURES = ("test accuracy", "true positive rate", "false positive rate", "ROC AUC")


def measure(run: hpcfsl.Run) -> tuple[float, float, float, float]:
    """Return the last test accuracy, the rates of excluded attackers and honest clients, and the area under the ROC."""
    accuracy = run.column("rounds", "test_accuracy")
    known = accuracy[~np.isnan(accuracy)]
    score, status, attacker = (run.column("participation", name) for name in ("credit_score", "status", "attacker"))
    found = rates(attacker, excluded(status))
    last = float(known[-1]) if known.size else float("nan")
    return last, found.true_positive, found.false_positive, roc_auc(score, attacker)


def spread(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation of the known values, in the units they come in."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "-"
    return f"{statistics.fmean(known):.3f}" + (f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else "")


def table(runs: Sequence[hpcfsl.Run]) -> str:
    """Return the table, Markdown, cases in the order in which they first appear."""
    cases: dict[str, list[tuple[float, float, float, float]]] = {}
    for run in runs:
        case, dash, seed = run.path.resolve().name.rpartition("-")
        if not (dash and seed.isdecimal()):
            raise SystemExit(f"robustness: {run.path}: name the folder CASE-SEED, as in sign-flip-0")
        cases.setdefault(case, []).append(measure(run))
    lines = [f"| case | seeds | {' | '.join(MEASURES)} |", "|---" * (2 + len(MEASURES)) + "|"]
    for case, found in cases.items():
        lines.append(f"| {case} | {len(found)} | {' | '.join(spread(values) for values in zip(*found, strict=True))} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders named CASE-SEED")
    runs = [hpcfsl.open(path) for path in parser.parse_args(arguments).runs]
    if len({run.rounds_done for run in runs}) > 1:
        parser.error("runs have " + ", ".join(f"{run.path.name}: {run.rounds_done}" for run in runs) + " rounds")
    sys.stdout.write(table(runs))


if __name__ == "__main__":
    main()
