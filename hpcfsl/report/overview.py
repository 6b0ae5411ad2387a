"""What ran and what came out: key figures and one table with a column a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcfsl.report.measures import rates
from hpcfsl.report.parts import Section, Table
from hpcfsl.report.texts import UNKNOWN, byte_size, count, duration, number, percent
from hpcfsl.report.view import View
from hpcfsl.trace.digest import digest


@dataclass(frozen=True, kw_only=True)
class Cards:
    """The few figures of a run that one looks at first: (value, what it is)."""

    label: str
    status: str
    figures: tuple[tuple[str, str], ...]


def cards(view: View) -> Cards:
    """Return the key figures of a run."""
    rounds, found = view.rounds, rates(view.participation["attacker"], view.participation["excluded"])
    figures = (
        *_quality(view),
        (percent(found.true_positive), "of attackers' updates excluded"),
        (percent(found.false_positive), "of honest updates excluded"),
        (byte_size(float(rounds["bytes_up"].sum() + rounds["bytes_down"].sum())), "exchanged"),
        (duration(float(rounds["seconds"].sum())), f"for {count(view.num_rounds)} round{'s' * (view.num_rounds != 1)}"),
    )
    return Cards(label=view.label, status=view.run.status, figures=figures)


def _quality(view: View) -> tuple[tuple[str, str], ...]:
    """Return the figures that tell most about the kind of task."""
    test = view.metrics["test"]
    if "rmse" in test:
        return (number(view.last("test", "rmse")), "test RMSE, last"), (
            number(view.last("test", "mae")),
            "test MAE, last",
        )
    accuracy = test.get("accuracy", np.zeros(0))
    known = accuracy[~np.isnan(accuracy)]
    last, best = (known[-1], known.max()) if known.size else (None, None)
    if "perplexity" in test:
        return (number(view.last("test", "perplexity")), "test perplexity, last"), (
            percent(last),
            "test accuracy, last",
        )
    return (percent(last), "test accuracy, last"), (percent(best), "test accuracy, best")


def section(views: list[View]) -> Section:
    """Return the table of what ran; rows in which runs differ are pointed out."""
    columns = [_properties(view) for view in views]
    rows = tuple((name, *(column[name] for column in columns)) for name in columns[0])
    differs = frozenset(place for place, row in enumerate(rows) if len(set(row[1:])) > 1)
    table = Table(
        title="Runs",
        columns=("", *(view.label for view in views)),
        rows=rows,
        num_text_columns=1 + len(views),
        caption="Rows in bold differ between the runs. Equal digests mean equal results, bit for bit."
        if len(views) > 1
        else "The digest is equal for runs with equal results, bit for bit, on any number of ranks.",
        highlighted=differs,
    )
    return Section(key="runs", title="What ran", lead="", blocks=(table,))


def _properties(view: View) -> dict[str, str]:
    run, ranks = view.run, view.ranks
    asked = view.setting("run", "rounds")
    hosts = len(set(ranks["host"].tolist()))
    return {
        "status": run.status,
        "data": _choice(view, "data", "source"),
        "partition": _choice(view, "partition", "rule"),
        "model": _choice(view, "model", "name"),
        "cut after": str(run.provenance.get("cut", view.setting("model", "cut", UNKNOWN))),
        "protocol": _choice(view, "protocol", "name"),
        "preset": str(view.setting("run", "preset", UNKNOWN)),
        "score": _choice(view, "score", "rule"),
        "threshold": _choice(view, "threshold", "rule"),
        "threat": _threat(view),
        "clients seen": _seen(view),
        "clients a round": _span(view.rounds["num_participants"]),
        "groups a round": _span(view.rounds["num_groups"]),
        "rounds": count(view.num_rounds) + (f" of {count(asked)}" if isinstance(asked, int) else ""),
        "seed": str(view.setting("run", "seed", UNKNOWN)),
        "ranks": f"{ranks['rank'].size} on {hosts} host{'s' * (hosts != 1)}" if hosts else UNKNOWN,
        "time": duration(float(view.rounds["seconds"].sum())),
        "digest": digest(run)[:16] if view.num_rounds else UNKNOWN,
    }


def _choice(view: View, section: str, key: str) -> str:
    return str(view.setting(section, key, UNKNOWN))


def _seen(view: View) -> str:
    held_out = view.run.column("clients", "held_out")
    apart = int((held_out == 1).sum())
    return count(held_out.size - apart) + (f", and {count(apart)} held out" if apart else "")


def _threat(view: View) -> str:
    attack = _choice(view, "threat", "attack")
    attackers = int((view.run.column("clients", "attacker") == 1).sum())
    return f"{attack}, {count(attackers)} attackers" if attackers else attack


def _span(values: Any) -> str:
    if not values.size:
        return UNKNOWN
    low, high = int(values.min()), int(values.max())
    return count(low) if low == high else f"{count(low)} to {count(high)}"
