"""Results as tables: for the terminal with rich, for the documentation as Markdown. Both show the same cells."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from hpcfsl.bench.summary import Line, Spread, best, lines, peak_rates, ratios, spread

Row = dict[str, Any]
_WIDTH = 140
_WORDS = ("workload", "contender", "ours", "over", "executor", "layer", "kind")
HEADS = ("workload", "contender", "clients/s", "range", "GFLOP/s", "of peak", "memory, MB", "ready, s", "J/client")
RATIO_HEADS = ("workload", "ours", "over", "ratio", "range")
LAYER_HEADS = ("workload", "layer", "kind", "forward", "backward", "GFLOP/s")
SUM_HEADS = ("parameters", "ranks", "exact, ms", "float32, ms", "ratio", "range", "memory, ms", "difference")
SHARE_HEADS = ("workload", "ranks", "round, ms", "record, ms", "commit, ms", "share", "range", "goal")
METHOD_HEADS = ("workload", "ranks", "executor", "averaging, ms", "method, ms", "ratio", "range", "goal")


def speed_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of one workload's contenders."""
    return [(result["title"], *_cells(line)) for line in lines(result)]


def ratio_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of one workload's ratios, our best over each other side's best."""
    return [
        (result["title"], ratio.ours, ratio.other, f"{ratio.value.median:.2f}", _range(ratio.value, 2))
        for ratio in ratios(result)
    ]


def method_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of one workload's cost of the method."""
    ratio = spread(result["ratio"])
    seconds = [f"{1e3 * spread(result[name]).median:.1f}" for name in ("averaging_seconds", "method_seconds")]
    goal = "1.15" if result["workload"] in ("digits", "cifar") else "-"
    return [
        (
            result["title"],
            str(result["ranks"]),
            result["executor"],
            *seconds,
            f"{ratio.median:.3f}",
            _range(ratio, 3),
            goal,
        )
    ]


def layer_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of the layers of one workload's model, and their sum."""
    rows = [(row["layer"] or row["kind"], row["forward_us"], row["backward_us"], row) for row in result["layers"]]
    cells = [
        (
            result["title"],
            name,
            row["kind"],
            f"{forward:.1f}",
            f"{backward:.1f}" if backward else "-",
            "-" if row["gflops_per_second"] is None else _short(row["gflops_per_second"]),
        )
        for name, forward, backward, row in rows
    ]
    total = [sum(row[place] for row in rows) for place in (1, 2)]
    return [*cells, (result["title"], "all", "-", f"{total[0]:.1f}", f"{total[1]:.1f}", "-")]


def sum_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of the sums over ranks, a row a size; a ratio is formed inside each repeat."""
    found = []
    for row in result["sizes"]:
        seconds = [1e3 * spread(row[name]).median for name in ("exact_seconds", "float32_seconds")]
        pairs = zip(row["exact_seconds"], row["float32_seconds"], strict=True)
        ratio = spread([exact / plain for exact, plain in pairs])
        memory = [1e3 * row[name] for name in ("exact_memory_seconds", "float32_memory_seconds")]
        found.append(
            (
                f"{row['parameters']:,}",
                str(result["ranks"]),
                *map(_short, seconds),
                f"{ratio.median:.2f}",
                _range(ratio, 2),
                " and ".join(map(_short, memory)),
                f"{row['difference']:.1e}",
            )
        )
    return found


def share_rows(result: Row) -> list[tuple[str, ...]]:
    """Return the cells of one workload's share of trace and checkpoint; times are those of one round."""
    found, counts = spread(result["share"]), [len(rounds) for rounds in result["round_seconds"]]
    rounds = spread([second for turn in result["round_seconds"] for second in turn])
    parts = [
        spread([seconds / count for seconds, count in zip(result[name], counts, strict=True)])
        for name in ("record_seconds", "commit_seconds")
    ]
    shown = [_short(1e3 * each.median) for each in (rounds, *parts)]
    percent = f"{100 * found.low:.1f} to {100 * found.high:.1f} %"
    return [(result["title"], str(result["ranks"]), *shown, f"{100 * found.median:.1f} %", percent, "5 %")]


def tables_of(report: Row) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Return title, heads and cells of every table that a report fills."""
    if report["kind"] == "method":
        cells = [cell for result in report["results"] for cell in method_rows(result)]
        return [("The whole method over plain averaging", METHOD_HEADS, cells)]
    if report["kind"] == "overheads":
        parts = {name: [each for each in report["results"] if each["part"] == name] for name in ("sums", "share")}
        sums = [cell for result in parts["sums"] for cell in sum_rows(result)]
        shares = [cell for result in parts["share"] for cell in share_rows(result)]
        both = (("The exact sum over ranks", SUM_HEADS, sums), ("Trace and checkpoint in a round", SHARE_HEADS, shares))
        return [each for each in both if each[2]]
    if report["kind"] == "layers":
        cells = [cell for result in report["results"] for cell in layer_rows(result)]
        return [("The native engine, microseconds a local step", LAYER_HEADS, cells)]
    speeds = [cell for result in report["results"] for cell in speed_rows(result)]
    found: list[tuple[str, Sequence[str], list[tuple[str, ...]]]] = [("Medians of repeats", HEADS, speeds)]
    over = [cell for result in report["results"] for cell in ratio_rows(result)]
    return [*found, ("Ours at its best over theirs, repeat by repeat", RATIO_HEADS, over)] if over else found


def print_report(report: Row, console: Console | None = None) -> None:
    """Print the tables of a report on the terminal."""
    console = console or Console(width=None if sys.stdout.isatty() else _WIDTH)
    for title, heads, cells in tables_of(report):
        kept, rows = _without_empty(heads, cells)
        table = Table(title=title, title_justify="left")
        for head in kept:
            table.add_column(head, justify="left" if head in _WORDS else "right")
        before = None
        for row in rows:
            table.add_row("" if row[0] == before else row[0], *row[1:])
            before = row[0]
        console.print(table)
    for note in footnotes([report]):
        console.print(note, soft_wrap=True)


def to_markdown(reports: Sequence[Row]) -> str:
    """Return the tables of some reports as Markdown, tables of one kind joined."""
    joined: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for report in reports:
        for _, heads, cells in tables_of(report):
            joined.setdefault(tuple(heads), []).extend(cells)
    parts = [_markdown_table(*_without_empty(heads, cells)) for heads, cells in joined.items()]
    return "\n\n".join([*parts, *footnotes(reports)]) + "\n"


def footnotes(reports: Sequence[Row]) -> list[str]:
    """Return what the figures were taken on, a line for each machine."""
    machines: dict[str, list[Row]] = {}
    for report in reports:
        machine = report["machine"]
        name = f"{machine['processor']}, {machine['cores']} cores, kernels {machine['instruction_set']}"
        machines.setdefault(name, []).append(report)
    return [_footnote(name, those) for name, those in machines.items()]


def _footnote(machine: str, reports: Sequence[Row]) -> str:
    versions = {name: number for report in reports for name, number in _versions(report).items()}
    repeats = sorted({report["settings"]["repeats"] for report in reports})
    parts = [
        machine,
        ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"repeats {' or '.join(map(str, repeats))}",
        _say_peaks(reports),
        "energy not readable" if not any(report["energy_readable"] for report in reports) else "",
    ]
    return "; ".join(part for part in parts if part) + "."


def _say_peaks(reports: Sequence[Row]) -> str:
    """Return the speed of the matrix product, the median over workloads."""
    rates: dict[int, list[float]] = {}
    for result in (result for report in reports for result in report["results"] if "contenders" in result):
        for cores, rate in peak_rates(result).items():
            rates.setdefault(cores, []).append(rate / 1e9)
    said = ", ".join(f"{spread(found).median:,.0f} on {cores}" for cores, found in sorted(rates.items()))
    return f"GFLOP/s of the matrix product by cores: {said}" if said else ""


def _versions(report: Row) -> dict[str, str]:
    """Return the versions that matter for speed, ours and the peers'."""
    found: dict[str, str] = {}
    for result in report["results"]:
        rows = [best(result, side) for side in ("ours", "pfl", "flower")] if "contenders" in result else [result]
        for row in rows:
            versions = (row or {}).get("details", row or {}).get("versions", {})
            found |= {name: versions[name] for name in ("hpcfsl", "torch", "pfl", "flwr") if versions.get(name)}
    return found


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.name,
        _short(line.rate.median),
        f"{_short(line.rate.low)} to {_short(line.rate.high)}",
        "-" if line.flops_per_second is None else _short(line.flops_per_second / 1e9),
        "-" if line.of_peak is None else f"{100 * line.of_peak.median:.1f} %",
        "-" if line.memory_bytes is None else f"{line.memory_bytes / 1e6:.0f}",
        "-" if line.ready_seconds is None else f"{line.ready_seconds:.1f}",
        "-" if line.joules is None else f"{line.joules:.3g}",
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _range(value: Spread, digits: int) -> str:
    return f"{value.low:.{digits}f} to {value.high:.{digits}f}"


def _without_empty(heads: Sequence[str], cells: list[tuple[str, ...]]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Leave out the columns in which nothing is known."""
    kept = [place for place in range(len(heads)) if any(row[place] != "-" for row in cells)]
    return tuple(heads[place] for place in kept), [tuple(row[place] for place in kept) for row in cells]


def _markdown_table(heads: Sequence[str], cells: list[tuple[str, ...]]) -> str:
    rows = [tuple(heads), ("---",) * len(heads), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
