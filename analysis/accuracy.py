"""Accuracy on real data: every protocol between the ceiling and the floor, as Markdown and as a figure a kind of data.

jobs/accuracy.sh makes the sweeps and the bounds that this reads, RUNS/NAME and RUNS/NAME.json, and calls it:

    python analysis/accuracy.py runs/accuracy --into docs/results.md --figures docs

Without --into it prints the tables. What is not there is left out, and where seeds are missing the table says how many
are there. Takes some seconds, and needs matplotlib for the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import hpcfsl
from hpcfsl.cluster.results import read_rows

BEGIN, END = "<!-- accuracy: made by jobs/accuracy.sh -->", "<!-- accuracy: end -->"
PROTOCOLS = ("fedavg", "splitfed-v1", "splitfed-v2", "splitfed-v3", "parallel", "u-shaped")
CASES = ("averaging", *PROTOCOLS)
OWN_CASES = ("splitfed-v1", "splitfed-v3")
BOUNDS = ("naive", "local-only", "centralised")
COLOURS = ("#2f86c1", "#e06c00", "#0a9a72", "#c4679d", "#b08d00", "#7a7fd6", "#6b7785")
Curve = tuple[list[int], list[float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: the name of a sweep and what is told of it."""

    name: str
    title: str
    kind: str
    metric: str = "accuracy"
    population: str = "test"


LINES = (
    Line(name="digits", title="digits by writer", kind="image"),
    Line(name="fashion-iid", title="Fashion-MNIST, IID", kind="image"),
    Line(name="fashion-dirichlet", title="Fashion-MNIST, Dirichlet .1", kind="image"),
    Line(name="spoken-digits", title="spoken digits", kind="speech"),
    Line(name="spoken-digits-new", title="spoken digits, a new speaker", kind="speech", population="held-out-clients"),
    Line(name="vowels", title="vowels", kind="speech"),
    Line(name="vowels-new", title="vowels, 7 new speakers", kind="speech", population="held-out-clients"),
    Line(name="docstrings", title="docstrings, next character", kind="text", metric="perplexity"),
    Line(name="vader-domains", title="VADER by domain", kind="text"),
    Line(name="vader-documents", title="VADER by document", kind="text"),
    Line(name="smartwatch", title="smartwatch, exercise", kind="forecast"),
    Line(name="smartwatch-forecast", title="smartwatch, next half second", kind="forecast", metric="mae"),
    Line(name="diabetes", title="diabetes", kind="forecast", metric="mae"),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out of a sweep.

    Attributes:
        wanted: Runs of each case.
        curves: Curves of the metric of each case, one a finished run.
        own: Last value on the clients' own test samples of each finished run, by case; where it was measured.
        bounds: Values of each bound, one a seed.
        own_bounds: The same on the clients' own test samples.
    """

    wanted: Mapping[str, int]
    curves: Mapping[str, list[Curve]]
    own: Mapping[str, list[float]] = field(default_factory=dict)
    bounds: Mapping[str, list[float]] = field(default_factory=dict)
    own_bounds: Mapping[str, list[float]] = field(default_factory=dict)

    def last(self, case: str) -> list[float]:
        """Return the last value of each finished run of a case."""
        return [values[-1] for _, values in self.curves.get(case, []) if values]


def curve(run: hpcfsl.Run, population: str, metric: str) -> Curve:
    """Return the rounds in which a metric was measured, and its values."""
    table = run.table("metrics")
    chosen = table["population"] == run.labels("metrics", "population").index(population)
    chosen &= table["metric"] == run.labels("metrics", "metric").index(metric)
    return table["round"][chosen].tolist(), table["value"][chosen].tolist()


def read(folder: Path, line: Line) -> Found | None:
    """Return what came out of a line's sweep; None where nothing is finished."""
    wanted: dict[str, int] = {}
    curves: dict[str, list[Curve]] = {}
    own: dict[str, list[float]] = {}
    sweep = folder / line.name
    for row in read_rows(sweep) if (sweep / "sweep.json").exists() else []:
        wanted[row.case] = wanted.get(row.case, 0) + 1
        if row.status != "finished":
            continue
        run = hpcfsl.open(sweep / "runs" / row.name)
        curves.setdefault(row.case, []).append(curve(run, line.population, line.metric))
        own.setdefault(row.case, []).extend(curve(run, "clients", line.metric)[1][-1:])
    if not curves:
        return None
    path = folder / f"{line.name}.json"
    bounds = read_bounds(path, line.population, line.metric)
    if not any(values for each in curves.values() for _, values in each):
        raise SystemExit(
            f"accuracy: {folder / line.name}: no run measured {line.metric} of population {line.population}"
        )
    return Found(
        wanted=wanted, curves=curves, own=own, bounds=bounds, own_bounds=read_bounds(path, "clients", line.metric)
    )


def read_bounds(path: Path, population: str, metric: str) -> dict[str, list[float]]:
    """Return the values of each bound in a file of `hpcfsl bounds --json`: one object, or a list of them."""
    if not path.exists():
        return {}
    trees = json.loads(path.read_text(encoding="utf-8"))
    found: dict[str, list[float]] = {}
    for row in (row for tree in (trees if isinstance(trees, list) else [trees]) for row in tree["rows"]):
        wanted = "test" if row["bound"] == "naive" else population  # which is all that the naive baseline has
        if (row["population"], row["metric"]) == (wanted, metric) and row["value"] is not None:
            found.setdefault(row["bound"], []).append(row["value"])
    return found


def spread(values: Sequence[float], metric: str) -> str:
    """Return mean and sample standard deviation, accuracies in percent."""
    if not values:
        return "-"
    size = abs(statistics.fmean(values))
    scale, digits = (100.0, 1) if metric == "accuracy" else (1.0, 3 if size < 1 else 2 if size < 10 else 1)
    numbers = [scale * value for value in values]
    deviation = f" ± {statistics.stdev(numbers):.{digits}f}" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):.{digits}f}{deviation}"


def cell(found: Found, case: str, metric: str) -> str:
    """Return the cell of a case; with the number of finished runs where some are missing."""
    text, done = spread(found.last(case), metric), len(found.curves.get(case, []))
    return f"{text} ({done} of {found.wanted[case]})" if done and done < found.wanted[case] else text


def tables(results: Mapping[Line, Found]) -> str:
    """Return the tables, Markdown: accuracies, then what is better where it is smaller, then clients' own samples."""
    parts = []
    for metric, title in (("accuracy", "Accuracy, %"), ("perplexity", "Perplexity"), ("mae", "Mean absolute error")):
        lines = [line for line in results if line.metric == metric]
        if lines:
            parts.append(_table(title, CASES, lines, results))
    own = [_own(line, found) for line, found in results.items() if any(found.own.values())]
    if own:
        headings = ("metric", "local-only", *OWN_CASES, "centralised")
        parts.append("\n".join([*_heading("On the clients' own test samples", headings), *own]))
    return "\n\n".join(parts) + "\n"


def _table(title: str, cases: Sequence[str], lines: Sequence[Line], results: Mapping[Line, Found]) -> str:
    rows = []
    for line in lines:
        found = results[line]
        low = [spread(found.bounds.get(bound, []), line.metric) for bound in BOUNDS[:2]]
        high = spread(found.bounds.get(BOUNDS[2], []), line.metric)
        middle = [cell(found, case, line.metric) for case in cases]
        rows.append(f"| {' | '.join([line.title, *low, *middle, high])} |")
    return "\n".join([*_heading(title, (*BOUNDS[:2], *cases, BOUNDS[2])), *rows])


def _heading(title: str, names: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join([title, *names])} |"
    yield "|---" * (len(names) + 1) + "|"


def _own(line: Line, found: Found) -> str:
    values = (found.own_bounds.get("local-only", []), *(found.own.get(case, []) for case in OWN_CASES))
    cells = [spread(each, line.metric) for each in (*values, found.own_bounds.get("centralised", []))]
    return f"| {' | '.join([line.title, line.metric, *cells])} |"


def draw(kind: str, results: Mapping[Line, Found], path: Path) -> None:
    """Draw the lines of a kind side by side: the mean curve of each case, the bounds as horizontal lines."""
    from matplotlib.figure import Figure

    lines = [line for line in results if line.kind == kind]
    figure = Figure(figsize=(max(3.3 * len(lines), 8.0), 3.8), layout="constrained")
    panels = figure.subplots(1, len(lines), squeeze=False)[0]
    for panel, line in zip(panels, lines, strict=True):
        _draw_panel(panel, line, results[line])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_panel(panel: Any, line: Line, found: Found) -> None:
    for case, colour in zip(CASES, COLOURS, strict=True):
        rounds, mean = mean_curve(found.curves.get(case, []))
        wide = {"linewidth": 3.5, "alpha": 0.4} if case == "fedavg" else {"linewidth": 1.3}  # splitfed-v1 lies on it
        panel.plot([number + 1 for number in rounds], mean, color=colour, label=case, **wide)
    for bound, style in zip(BOUNDS, (":", "-.", "--"), strict=True):
        value = statistics.fmean(found.bounds[bound]) if bound in found.bounds else math.nan
        panel.axhline(value, color="#222222", linestyle=style, linewidth=1.0, label=bound)
    # What counts is between the floor and the ceiling; the first rounds may lie outside.
    seen = [statistics.fmean(found.last(case)) for case in found.curves if found.last(case)]
    seen += [
        statistics.fmean(found.bounds[bound]) for bound in BOUNDS[line.metric == "accuracy" :] if bound in found.bounds
    ]
    margin = 0.15 * (max(seen) - min(seen)) + 1e-3 * max(seen)
    top = max(seen) + margin
    top = min(top, 1.0) if line.metric == "accuracy" else top
    panel.set(title=line.title, xlabel="round", ylabel=line.metric, ylim=(min(seen) - margin, top))
    panel.title.set_fontsize(10)
    panel.grid(alpha=0.2)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of curves that were measured in the same rounds, as far as all of them go."""
    known = [each for each in curves if each[0]]
    if not known:
        return [], []
    length = min(len(rounds) for rounds, _ in known)
    mean = np.mean([values[:length] for _, values in known], axis=0)
    return known[0][0][:length], mean.tolist()


def put_between(text: str, part: str) -> str:
    """Return a page with `part` between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"accuracy: the page has no lines {BEGIN} and {END}")
    return f"{before}{begin}\n\n{part}\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweeps and bounds")
    parser.add_argument("--into", type=Path, metavar="PAGE", help="put the tables between the marks of this page")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="write accuracy-KIND.png there")
    given = parser.parse_args(arguments)
    results = {line: found for line in LINES if (found := read(given.folder, line)) is not None}
    text = tables(results)
    if given.into:
        page = given.into.read_text(encoding="utf-8")
        given.into.write_text(put_between(page, text), encoding="utf-8")
    else:
        print(text, end="")
    for kind in dict.fromkeys(line.kind for line in results) if given.figures else ():
        draw(kind, results, given.figures / f"accuracy-{kind}.png")


if __name__ == "__main__":
    main()
