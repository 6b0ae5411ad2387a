"""`hpcfsl bench --scaling`: measure the design, fit the model, test it on what was held out, draw the curves.

Layer 4. One command writes everything: the tables to the terminal, all numbers as JSON, and in `--out` the picture
`scaling.png` and the figures in `scaling.md` (between its two markers, where the page is there already).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcfsl.bench.processes import num_cores
from hpcfsl.errors import UserError
from hpcfsl.provenance import provenance
from hpcfsl.scaling.calibrate import read_rates, write_rates
from hpcfsl.scaling.checks import check_estimates
from hpcfsl.scaling.curves import all_curves
from hpcfsl.scaling.design import DESIGN, HELD_OUT_RANKS, RANKS
from hpcfsl.scaling.direct import measure_directly
from hpcfsl.scaling.fit import Compared, compare, fit, fit_network, median_and_worst
from hpcfsl.scaling.measure import measure
from hpcfsl.scaling.model import Rates
from hpcfsl.scaling.page import figures, insert
from hpcfsl.trace.folder import folder_errors, write_atomic

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the command line asks for.

    Attributes:
        out: Folder for the picture and the page; None writes neither.
        json: File for all numbers; None writes none.
        rates: File for the fitted rates, in the form that ships with the package; None writes none.
        passes: How often the design is measured.
        rounds: Timed rounds of a setting in a pass.
        reuse: A file of `--json` whose rates are used instead of measuring; None measures.
    """

    out: Path | None = None
    json: Path | None = None
    rates: Path | None = None
    passes: int = 2
    rounds: int = 3
    reuse: Path | None = None


def bench_scaling(choice: Choice) -> None:
    """Measure, fit, compare, draw, and write what was asked for.

    Raises:
        UserError: No ranks can be started here, a file cannot be written, or matplotlib is not installed.
    """
    if choice.out is not None:
        _check_drawing()
    report = _measured(choice) if choice.reuse is None else _read(choice.reuse)
    text = figures(report)
    print(text)
    rates = read_rates(json.dumps(report["rates"]))
    if choice.json is not None:
        _write(choice.json, json.dumps(report, indent=1) + "\n")
    if choice.rates is not None:
        _write(choice.rates, write_rates(rates))
    if choice.out is not None:
        _write_page(choice.out, text, rates)


def _measured(choice: Choice) -> dict[str, Any]:
    measured = measure(DESIGN, RANKS, passes=choice.passes, rounds=choice.rounds, tell=_say)
    direct = measure_directly()
    rates = fit(measured.observations, direct | fit_network(measured.network, num_cores()))
    compared = compare(measured.observations, rates)
    _say("estimating and running a few cases")
    return {
        "format": FORMAT,
        "machine": {**provenance(), "cores": num_cores()},
        "network_seconds": measured.network,
        "rates": json.loads(write_rates(rates)),
        "held_out_ranks": list(HELD_OUT_RANKS),
        "settings": [_row(each) for each in compared],
        "estimates": check_estimates(),
        "errors": {name: list(median_and_worst(found)) for name, found in _kinds(compared).items() if found},
    }


def _kinds(compared: list[Compared]) -> dict[str, list[Compared]]:
    """Return the comparisons by what the fit did not see."""
    ranks = [each for each in compared if each.observation.cluster.ranks in HELD_OUT_RANKS]
    sizes = [each for each in compared if each.observation.setting.held_out]
    return {
        "seen by the fit": [each for each in compared if not each.observation.held_out],
        "other rank counts": [each for each in ranks if not each.observation.setting.held_out],
        "other settings": [each for each in sizes if each not in ranks],
        "both other": [each for each in sizes if each in ranks],
        "all held out": [each for each in compared if each.observation.held_out],
    }


def _row(each: Compared) -> dict[str, Any]:
    seen, work = each.observation, each.observation.work
    return {
        "setting": seen.setting.name,
        "ranks": seen.cluster.ranks,
        "held_out": seen.held_out,
        "parameters": work.params,
        "groups": work.groups,
        "clients": int(work.clients.sum()),
        "measured_seconds": seen.seconds,
        "predicted_seconds": each.predicted,
        "error": each.error,
        "stages": {name: [value, each.stages[name]] for name, value in seen.stages.items()},
    }


def _write_page(folder: Path, text: str, rates: Rates) -> None:
    from hpcfsl.scaling.drawing import draw

    page = folder / "scaling.md"
    with folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        before = page.read_text(encoding="utf-8") if page.exists() else ""
    _write(page, insert(before, text))
    write_atomic(folder / "scaling.png", draw(all_curves(rates)))


def _write(path: Path, text: str) -> None:
    with folder_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the results {path}: {error}") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT or "rates" not in report:
        raise UserError(f"{path}: no results of `hpcfsl bench --scaling` in format {FORMAT}; measure again")
    return report


def _check_drawing() -> None:
    try:
        import matplotlib  # noqa: F401  # to fail before the measurements rather than after
    except ImportError:
        raise UserError("--out: drawing needs matplotlib: pip install 'hpcfsl[report]'") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
