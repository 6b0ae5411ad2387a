"""The figures of docs/scaling.md as Markdown, and putting them into the page.

Layer 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hpcfsl.scaling.calibrate import read_rates
from hpcfsl.scaling.curves import ASSUMED, Curve, all_curves, what_if
from hpcfsl.scaling.model import Prediction, Rates

BEGIN, END = "<!-- figures: written by the command above -->", "<!-- end of the figures -->"
_SHOWN = (1, 16, 64, 256, 1024)
_RULES = {"weighted": "weighted mean", "distances": "geometric median", "median": "coordinate median"}


def figures(report: dict[str, Any]) -> str:
    """Return all tables of a report."""
    rates = read_rates(json.dumps(report["rates"]))
    parts = [_errors(report), _curves(rates), _what_if(rates), _estimates(report), _settings(report), _rates(rates)]
    return "\n".join("\n".join(part) + "\n" for part in parts)


def insert(page: str, text: str) -> str:
    """Return the page with `text` between its markers; a page without them gets both at its end."""
    if BEGIN not in page or END not in page:
        return f"{page}{BEGIN}\n\n{text}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]


def _errors(report: dict[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    held = " and ".join(map(str, report["held_out_ranks"]))
    yield f"Measured on {machine['cores']} cores of {machine['processor']}. Held out: five settings, and {held} ranks."
    yield ""
    rows = [[name, _percent(pair[0]), _percent(pair[1])] for name, pair in report["errors"].items()]
    yield from table(["error of a round's seconds", "median", "worst"], rows)


def _estimates(report: dict[str, Any]) -> Iterator[str]:
    yield "`hpcfsl estimate` beside real runs on one rank, estimated / real:"
    yield ""
    heads = ["case", "round, ms", "memory, MB", "run folder, MB"]
    scales = {"round_seconds": 1e3, "memory_bytes": 1e-6, "folder_bytes": 1e-6}
    rows = [
        [each["case"], *(_pair(scale * each[key][0], scale * each[key][1]) for key, scale in scales.items())]
        for each in report["estimates"]
    ]
    yield from table(heads, rows)


def _pair(before: float, after: float) -> str:
    return f"{before:.3g} / {after:.3g} = {before / after:.2f}"


def _settings(report: dict[str, Any]) -> Iterator[str]:
    heads = ["setting", "parameters", "groups", "clients", "ranks", "measured, ms", "predicted, ms", "error"]
    rows = [
        [
            each["setting"] + (" *" if each["held_out"] else ""),
            f"{each['parameters']:,}",
            str(each["groups"]),
            str(each["clients"]),
            str(each["ranks"]),
            f"{1e3 * each['measured_seconds']:.0f}",
            f"{1e3 * each['predicted_seconds']:.0f}",
            f"{100 * each['error']:+.0f} %",
        ]
        for each in report["settings"]
    ]
    yield "Settings with a star were not seen by the fit."
    yield ""
    yield from table(heads, rows)


def _rates(rates: Rates) -> Iterator[str]:
    yield f"A group's time varies by {_percent(rates.group_noise)} and a rank's by {_percent(rates.round_noise)} from"
    yield f"round to round (standard deviations); a core is {_percent(rates.contention)} slower while all cores work."
    yield ""
    rows = [[f"`{name}`", f"{value:.3g}"] for name, value in sorted(rates.seconds.items()) if value > 0]
    yield from table(["fitted rate", "seconds"], rows)


def _curves(rates: Rates) -> Iterator[str]:
    yield f"Seconds a round, efficiency and what takes most, on assumed nodes of {ASSUMED.ranks_per_node} ranks:"
    yield ""
    heads = ["scaling", "parameters", "rule across groups", *(f"{ranks} ranks" for ranks in _SHOWN)]
    yield from table(heads, [_curve_row(each) for each in all_curves(rates)])


def _curve_row(each: Curve) -> list[str]:
    points = {point.ranks: point for point in each.points}
    shown = [points[ranks] for ranks in _SHOWN]
    cells = [f"{_seconds(p.round.seconds)}, {100 * p.efficiency:.0f} %, {p.round.dominant}" for p in shown]
    return [each.kind, f"{each.params:.0e}".replace("e+0", "e"), _RULES[each.rule], *cells]


def _what_if(rates: Rates) -> Iterator[str]:
    yield "What if, strong scaling on 1,024 ranks:"
    yield ""
    rows = [
        [what, f"{params:.0e}".replace("e+0", "e"), name, *_parts(found)]
        for what, params, predictions in what_if(rates)
        for name, found in predictions.items()
    ]
    heads = ["what", "parameters", "choice", "round", "compute", "sum over ranks", "rule across groups", "stragglers"]
    yield from table(heads, rows)


def _parts(found: Prediction) -> list[str]:
    names = ("compute", "reduction", "distances", "stragglers")
    return [_seconds(found.seconds), *(_seconds(found.terms[name]) for name in names)]


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
