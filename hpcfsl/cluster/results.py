"""The result table of a sweep: what came out, mean and standard deviation over seeds, and what is missing.

Only finished runs enter a mean; every other run is listed with what is wrong with it, so that no average hides a gap.
"""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Column, Table

from hpcfsl.cluster.array import LIST, run_path
from hpcfsl.errors import ConfigError, UserError, one_line
from hpcfsl.settings import suggest
from hpcfsl.trace.inspect import metrics
from hpcfsl.trace.reader import open as open_run
from hpcfsl.trace.schema import METRICS, POPULATIONS

Measure = tuple[str, tuple[str, ...], bool]
"""What a column shows: heading, path in the metrics of a run, whether in percent."""

MEASURES: tuple[Measure, ...] = (
    ("test accuracy", ("final", "test_accuracy"), True),
    ("best accuracy", ("best_test_accuracy",), True),
    ("test loss", ("final", "test_loss"), False),
    ("attackers excluded", ("detection", "true_positive_rate"), True),
    ("honest excluded", ("detection", "false_positive_rate"), True),
)

_SHARES = ("accuracy", "macro-f1", "smashed-error")
_FILE_WIDTH = 240


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one run.

    Attributes:
        name: Name of its folder.
        case: Name of its case.
        settings: What sets it apart, dotted name to value as text.
        seed: Its seed.
        status: `finished`, `resumable`, `running`, `failed`, `missing` (never started) or `broken`.
        reason: Why it is broken.
        rounds: Rounds that are committed.
        values: One number for each measure that was asked for; None where it was not measured.
    """

    name: str
    case: str
    settings: Mapping[str, str]
    seed: int
    status: str
    reason: str = ""
    rounds: int = 0
    values: tuple[float | None, ...] = ()


def measures(names: Sequence[str]) -> tuple[Measure, ...]:
    """Return what to show for metrics chosen by name; without any, `MEASURES`.

    Args:
        names: Each a metric of the table `metrics`, of the global test set, or of another population before a colon:
            "rmse", "held-out-clients:accuracy".

    Raises:
        ConfigError: There is no such population or metric.
    """
    return tuple(_measure(name) for name in names) or MEASURES


def _measure(name: str) -> Measure:
    population, _, metric = name.rpartition(":")
    population = population or "test"
    for part, known in ((population, POPULATIONS), (metric, METRICS)):
        if part not in known:
            raise ConfigError("--metric", name, suggest(part, list(known)))
    return f"{population} {metric}".replace("-", " "), ("metrics", population, metric), metric in _SHARES


def read_rows(folder: Path, shown: Sequence[Measure] = MEASURES) -> list[Row]:
    """Return what became of each run of a sweep, with the values of what is shown.

    Raises:
        UserError: It is not a sweep's folder.
    """
    try:
        entries = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return [_read_row(folder, entry, shown) for entry in entries]
    except FileNotFoundError:
        fix = "name the folder that was given to `hpcfsl sweep` as --out"
        raise UserError(one_line(f"{folder}: not the folder of a sweep; {fix}")) from None
    # No JSON, or JSON that is no such list.
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(one_line(f"{folder / LIST}: cannot be read ({error}); run the sweep's command again")) from None


def varying(rows: Sequence[Row]) -> list[str]:
    """Return the settings that are not the same in all runs of a case, in the order of the sweep file.

    What is the same in all runs of a case, its name says.
    """
    values: dict[str, dict[str, set[str | None]]] = {}
    for key in dict.fromkeys(key for row in rows for key in row.settings):
        for row in rows:
            values.setdefault(key, {}).setdefault(row.case, set()).add(row.settings.get(key))
    return [key for key, cases in values.items() if any(len(found) > 1 for found in cases.values())]


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each case and combination, all seeds together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.case, json.dumps(dict(row.settings), sort_keys=True)), []).append(row)
    return list(groups.values())


def summaries(rows: Sequence[Row], shown: Sequence[Measure] = MEASURES) -> Iterator[list[str]]:
    """Yield the cells of the table: the heading, then a line a combination."""
    keys, cases = varying(rows), any(row.case for row in rows)
    yield [*(["case"] if cases else []), *keys, "finished", *(heading for heading, _, _ in shown)]
    for group in group_rows(rows):
        first, done = group[0], [row for row in group if row.status == "finished"]
        cells = [
            spread([row.values[place] for row in done], percent=percent) for place, (_, _, percent) in enumerate(shown)
        ]
        named = [*([first.case] if cases else []), *(first.settings.get(key, "-") for key in keys)]
        yield [*named, f"{len(done)} of {len(group)}", *cells]


def print_table(rows: Sequence[Row], shown: Sequence[Measure] = MEASURES) -> None:
    """Print the table as wide as the terminal or COLUMNS; into a file, as wide as it is."""
    headings, *lines = summaries(rows, shown)
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for cells in lines:
        table.add_row(*cells)
    Console(color_system=None, width=shutil.get_terminal_size((_FILE_WIDTH, 0)).columns).print(table)


def problems(rows: Sequence[Row]) -> list[str]:
    """Return a line for each run that is not finished."""
    return [_problem(row) for row in rows if row.status != "finished"]


def spread(values: Sequence[float | None], *, percent: bool) -> str:
    """Return mean and sample standard deviation of the known values; the mean alone where there is one value."""
    scale, unit, digits = (100.0, " %", 2) if percent else (1.0, "", 4)
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{deviation}{unit}"


def write_csv(rows: Sequence[Row], stream: TextIO, shown: Sequence[Measure] = MEASURES) -> None:
    """Write one line a run, numbers in full, for a spreadsheet or pandas."""
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    headings = [heading.replace(" ", "_") for heading, _, _ in shown]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "case", *keys, "seed", "status", "rounds", *headings, "reason"])
    for row in rows:
        settings = [row.settings.get(key, "") for key in keys]
        values = ["" if value is None else repr(value) for value in row.values or (None,) * len(shown)]
        writer.writerow([row.name, row.case, *settings, row.seed, row.status, row.rounds, *values, row.reason])


def _read_row(folder: Path, entry: Mapping[str, Any], shown: Sequence[Measure]) -> Row:
    settings = {key: _text(value) for key, value in entry["settings"].items()}
    row = Row(
        name=str(entry["name"]), case=str(entry["case"]), settings=settings, seed=int(entry["seed"]), status="missing"
    )
    path = run_path(folder, row.name)
    if not (path / "status").exists():
        return row
    try:
        run = open_run(path)
        found = metrics(run)
        values = tuple(_pick(found, place) for _, place, _ in shown)
        return replace(row, status=run.status, rounds=run.rounds_done, values=values)
    except UserError as error:
        return replace(row, status="broken", reason=str(error))


def _pick(tree: Any, path: tuple[str, ...]) -> float | None:
    for name in path:
        tree = None if tree is None else tree.get(name)
    return None if tree is None else float(tree)


def _problem(row: Row) -> str:
    after = f" after {row.rounds} rounds" if row.rounds else ""
    return f"{row.status}{after}: {row.name}" + (f" ({row.reason})" if row.reason else "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
