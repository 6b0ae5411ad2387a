"""A run as the sections of a page want it: its label and the columns they draw, read once.

The sketch of every update is most of a trace and none of a page, so columns are named rather than whole tables read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.measures import arrived, excluded, rows_by_round
from hpcfsl.trace.inspect import CLIENT_METRICS
from hpcfsl.trace.reader import Run
from hpcfsl.trace.schema import TABLES

Columns = dict[str, NDArray[Any]]

_PARTICIPATION = (
    *(
        "round",
        "client",
        "credit_score",
        "threshold",
        "scaling",
        "weight",
        "coefficient",
        "status",
        "attacker",
        "fault",
    ),
    *(column.name for column in TABLES["participation"] if column.units == "byte"),
)


class View:
    """A run and its label on the page.

    Args:
        run: The run.
        label: What it is called in legends and tables.
    """

    def __init__(self, run: Run, label: str) -> None:
        self.run, self.label = run, label

    @property
    def num_rounds(self) -> int:
        """Rounds committed."""
        return self.run.rounds_done

    @cached_property
    def rounds(self) -> Columns:
        """The table `rounds`."""
        return self.run.table("rounds")

    @cached_property
    def everybody(self) -> Columns:
        """What a page shows of the table `participation`, and `excluded`, [rows]."""
        columns = self._columns("participation", _PARTICIPATION)
        return {**columns, "excluded": excluded(columns["status"])}

    @cached_property
    def participation(self) -> Columns:
        """The rows of `everybody` whose upload arrived, [rows]."""
        here = arrived(self.everybody["status"])
        return {name: values[here] for name, values in self.everybody.items()}

    @cached_property
    def client_rows(self) -> list[slice]:
        """Rows of `participation` by round."""
        return rows_by_round(self.participation["round"], self.num_rounds)

    @cached_property
    def groups(self) -> Columns:
        """The table `group_rounds`."""
        return self.run.table("group_rounds")

    @cached_property
    def timings(self) -> Columns:
        """The table `timings`."""
        return self.run.table("timings")

    @cached_property
    def metrics(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Metrics by population and name, each [rounds] with NaN where it was not measured; none in format 2.0."""
        table, found = self.run.table("metrics"), dict[str, dict[str, NDArray[np.float64]]]()
        populations, names = (self.run.labels("metrics", column) for column in ("population", "metric"))
        for code, population in enumerate(populations):
            for number, name in enumerate(names):
                rows = (table["population"] == code) & (table["metric"] == number)
                if rows.any():
                    values = np.full(self.num_rounds, np.nan)
                    values[table["round"][rows]] = table["value"][rows]
                    found.setdefault(population, {})[name] = values
        if "test" not in found:
            old = {"accuracy": self.rounds["test_accuracy"], "loss": self.rounds["test_loss"]}
            found["test"] = {name: values for name, values in old.items() if np.isfinite(values).any()}
        return found

    def last(self, population: str, name: str) -> float | None:
        """Return the last value of a metric that was measured; None where none was."""
        values = self.metrics.get(population, {}).get(name, np.zeros(0))
        known = values[~np.isnan(values)]
        return float(known[-1]) if known.size else None

    @cached_property
    def clients_tested(self) -> dict[str, Columns]:
        """Rows of the table `evaluation` where clients and held-out clients were last tested, by population."""
        found: dict[str, Columns] = {}
        for rows in self.run.segments("evaluation", ("round", "client", "held_out", *CLIENT_METRICS)):
            for code, population in enumerate(("clients", "held-out-clients")):
                of_these = rows["held_out"] == code
                last = of_these & (rows["round"] == rows["round"][of_these].max(initial=-1))
                if last.any():
                    found[population] = {name: values[last] for name, values in rows.items()}
        return found

    @cached_property
    def ranks(self) -> Columns:
        """The rows of the table `ranks` of the last start."""
        ranks = self.run.table("ranks")
        first = ranks["first_round"]
        last = first == first.max() if first.size else np.zeros(0, bool)
        return {name: values[last] for name, values in ranks.items()}

    @property
    def has_attackers(self) -> bool:
        """Whether an attacker ever took part."""
        return bool(self.participation["attacker"].any())

    def setting(self, section: str, key: str, default: Any = None) -> Any:
        """Return a setting of the run, `default` where its configuration does not say."""
        table = self.run.config.get(section, {})
        return table.get(key, default) if isinstance(table, dict) else default

    def _columns(self, table: str, names: tuple[str, ...]) -> Columns:
        none = self.run.empty(table)
        parts = [{name: none[name] for name in names}, *self.run.segments(table, names)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


def views(runs: Sequence[Run]) -> list[View]:
    """Return the runs with labels: folder names, with as many parents as it takes to tell runs apart."""
    paths = [run.path.resolve() for run in runs]
    for depth in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    else:  # the same folder twice
        labels = [f"{path.name} ({number})" for number, path in enumerate(paths, 1)]
    return [View(run, label) for run, label in zip(runs, labels, strict=True)]
