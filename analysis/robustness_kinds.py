"""All four kinds of data, attacked and defended, in several protocols: tables of what jobs/robustness_kinds.sh ran.

    python analysis/robustness_kinds.py runs/robustness_kinds --into docs/results.md

The first table has the last test metric under plain averaging and under the method, the second what the method's scores
saw, the third what a replay and screening do on the same pictures. Without --into they are printed. A combination of
which no run is finished is a dash. Takes some seconds.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hpcfsl
from hpcfsl.cluster.results import read_rows
from hpcfsl.report.measures import excluded, rates, roc_auc

BEGIN, END = "<!-- kinds: made by jobs/robustness_kinds.sh -->", "<!-- kinds: end -->"
PROTOCOLS = ("splitfed-v1", "parallel", "u-shaped")
PRESETS = ("averaging", "hardened")
# Name of the sweep, heading, metric, and the factor and digits with which it is written.
KINDS = (
    ("image", "digits, accuracy in %", "accuracy", 100.0, 1),
    ("speech", "vowels, accuracy in %", "accuracy", 100.0, 1),
    ("text", "docstrings, perplexity", "perplexity", 1.0, 1),
    ("forecast", "smartwatch, MAE in 1/1000", "mae", 1000.0, 0),
)
UNDOING = "image-undo"
"""The sweep of the first kind, under the method, with each way to undo what attackers taught a shared server half."""
UNDO = ("replay", "screen")
ATTACKS = {
    "none": "no attack",
    "label-flip": "label flip",
    "sign-flip": "sign flip, 5 times",
    "smashed-noise": "smashed noise",
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of one run.

    Attributes:
        metric: Last value of the kind's metric on the test set.
        caught: Share of attackers' updates that were excluded.
        wrong: Share of honest updates that were excluded.
        auc: Area under the ROC curve of the credit scores.
    """

    metric: float
    caught: float
    wrong: float
    auc: float


Results = dict[tuple[str, str, str, str], list[Found]]
"""Runs by kind, attack, protocol and preset (in the sweep `UNDOING` by the way of undoing instead), one a seed."""


def last(run: hpcfsl.Run, metric: str) -> float:
    """Return the last value of a metric on the test set; NaN where it was not measured."""
    table = run.table("metrics")
    chosen = table["population"] == run.labels("metrics", "population").index("test")
    chosen &= table["metric"] == run.labels("metrics", "metric").index(metric)
    values = table["value"][chosen]
    return float(values[-1]) if len(values) else float("nan")


def measure(run: hpcfsl.Run, metric: str) -> Found:
    """Return what came out of a run."""
    score, status, attacker = (run.column("participation", name) for name in ("credit_score", "status", "attacker"))
    found = rates(attacker, excluded(status))
    return Found(
        metric=last(run, metric),
        caught=found.true_positive,
        wrong=found.false_positive,
        auc=roc_auc(score, attacker),
    )


def read(folder: Path) -> Results:
    """Return what the finished runs of the sweeps in a folder gave."""
    results: Results = {}
    for kind, metric in [*((kind, metric) for kind, _, metric, _, _ in KINDS), (UNDOING, KINDS[0][2])]:
        rows = read_rows(folder / kind) if (folder / kind / "sweep.json").exists() else []
        for row in rows:
            if row.status == "finished":
                way = row.settings["protocol.undo" if kind == UNDOING else "run.preset"]
                key = (kind, row.case, row.settings["protocol.name"], way)
                run = hpcfsl.open(folder / kind / "runs" / row.name)
                results.setdefault(key, []).append(measure(run, metric))
    return results


def spread(values: Sequence[float], scale: float, digits: int) -> str:
    """Return mean and sample standard deviation of finite values; a dash for no run, "diverged" where one is not."""
    known = [scale * value for value in values]
    if not known:
        return "-"
    if not all(math.isfinite(value) for value in known):
        return "diverged"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{deviation}"


def metrics_table(results: Results) -> str:
    """Return the table of metrics, Markdown."""
    lines = _heading([f"`{protocol}`, `{preset}`" for protocol in PROTOCOLS for preset in PRESETS])
    for kind, title, _, scale, digits in KINDS:
        for attack, name in ATTACKS.items():
            found = [results.get((kind, attack, protocol, preset), []) for protocol in PROTOCOLS for preset in PRESETS]
            cells = [spread([each.metric for each in runs], scale, digits) for runs in found]
            lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def detection_table(results: Results) -> str:
    """Return the table of what scores and threshold of the method saw, Markdown."""
    lines = _heading([f"`{protocol}`" for protocol in PROTOCOLS])
    for kind, title, _, _, _ in KINDS:
        for attack in [attack for attack in ATTACKS if attack != "none"]:
            cells = [_seen(results.get((kind, attack, protocol, "hardened"), [])) for protocol in PROTOCOLS]
            lines.append(f"| {title.partition(',')[0]} | {ATTACKS[attack]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def undoing_table(results: Results) -> str:
    """Return the table of replay and screening where server halves are shared, Markdown."""
    _, title, _, scale, digits = KINDS[0]
    lines = _heading([f"`{protocol}`, `{undo}`" for protocol in PROTOCOLS[1:] for undo in UNDO])
    for attack, name in ATTACKS.items():
        cells = []
        for protocol in PROTOCOLS[1:]:
            for undo in UNDO:
                runs = results.get((UNDOING, attack, protocol, undo), [])
                shares = [spread([getattr(run, each) for run in runs], 1.0, 2) for each in ("caught", "wrong")]
                parts = [spread([run.metric for run in runs], scale, digits), *shares[attack == "none" :]]
                cells.append("; ".join(parts) if runs else "-")
        lines.append(f"| {title} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _heading(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(['data', 'attack', *names])} |", "|---" * (2 + len(names)) + "|"]


def _seen(runs: Sequence[Found]) -> str:
    if not runs:
        return "-"
    auc, caught, wrong = (spread([getattr(run, name) for run in runs], 1.0, 2) for name in ("auc", "caught", "wrong"))
    return f"{auc}; {caught}; {wrong}"


def put_between(text: str, part: str) -> str:
    """Return a page with `part` between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"robustness_kinds: the page has no lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{part}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweeps")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    given = parser.parse_args(arguments)
    results = read(given.folder)
    seen = "AUC of the method's scores; share of attackers' updates excluded; share of honest updates excluded:"
    undone = "A replay, or screening in its place: accuracy; share of attackers' updates excluded; of honest ones:"
    tables = (metrics_table(results), seen + "\n", detection_table(results), undone + "\n", undoing_table(results))
    text = "\n".join(tables)
    if given.into:
        page = given.into.read_text(encoding="utf-8")
        given.into.write_text(put_between(page, text), encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
