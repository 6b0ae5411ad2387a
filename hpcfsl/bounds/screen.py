"""What `hpcfsl bounds` prints: a line for each population and metric, a column for each bound.

Layer 4.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from hpcfsl.bounds.find import Bounds

_WIDTH = 120


def print_bounds(found: Bounds, name: str) -> None:
    """Print the mean over seeds, and their sample standard deviation where there are several."""
    text = f"{name}: {found.passes} passes over {found.train_samples:,} samples, {found.clients} clients alone"
    headings = list(dict.fromkeys(row.bound for row in found.rows))
    table = Table(title=text, title_justify="left")
    for heading in ("tested on", "metric", *headings):
        table.add_column(heading, no_wrap=True)
    for population, metric in dict.fromkeys((row.population, row.metric) for row in found.rows):
        cells = [_cell(found, bound, population, metric) for bound in headings]
        table.add_row(population, metric, *cells)
    Console(width=_WIDTH, color_system=None, force_terminal=False).print(table)


def tree(found: Bounds) -> dict[str, Any]:
    """Return everything as plain tables, for JSON; None for what is not a finite number."""
    rows = [
        {
            "seed": row.seed,
            "bound": row.bound,
            "population": row.population,
            "metric": row.metric,
            "value": row.value if math.isfinite(row.value) else None,
        }
        for row in found.rows
    ]
    return {"passes": found.passes, "train_samples": found.train_samples, "clients": found.clients, "rows": rows}


def _cell(found: Bounds, bound: str, population: str, metric: str) -> str:
    key = bound, population, metric
    return spread([row.value for row in found.rows if (row.bound, row.population, row.metric) == key])


def spread(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation; the mean alone of one value, a dash for none."""
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{deviation}"
