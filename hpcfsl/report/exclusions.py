"""Tables of who was excluded: one row a run, and one row a client."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.measures import rates, roc_auc
from hpcfsl.report.parts import Table
from hpcfsl.report.texts import count, number, percent
from hpcfsl.report.view import View

MAX_CLIENTS = 40
MAX_MISSED = 15
_COLUMNS = ("client", "truth", "rounds taken part", "rounds excluded", "share excluded", "median score", "last weight")


def summary_table(views: list[View]) -> Table:
    """Return true and false positive rates of each run."""
    rows = []
    for view in views:
        columns = view.participation
        found = rates(columns["attacker"], columns["excluded"])
        area = roc_auc(columns["credit_score"], columns["attacker"])
        honest = f"{count(found.honest_excluded)} of {count(found.honest)}"
        attackers = f"{count(found.attackers_excluded)} of {count(found.attackers)}"
        rates_of = (percent(found.true_positive), percent(found.false_positive))
        rows.append((view.label, attackers, rates_of[0], honest, rates_of[1], number(area, 3)))
    return Table(
        title="Exclusions, all rounds",
        columns=(
            "run",
            "attackers' updates excluded",
            "true positive rate",
            "honest updates excluded",
            "false positive rate",
            "area under ROC curve",
        ),
        rows=tuple(rows),
        caption="The area under the ROC curve is the chance that an attacker's score is above an honest client's: it "
        "judges the score alone, whatever the threshold. 1 is perfect, 0.5 is a coin. Updates that are not finite "
        "count as excluded.",
    )


def client_tables(view: View, *, folded: bool) -> list[Table]:
    """Return the clients excluded most and, where that is not all of them, the attackers excluded least."""
    rows, attacker, share = _clients(view)
    # Client numbers break ties, as the sort keeps the order of equals.
    most = np.argsort(-share, kind="stable")[:MAX_CLIENTS]
    cut = len(rows) > MAX_CLIENTS
    words = f"the {len(most)} excluded most often of {count(len(rows))}" if cut else "the most often excluded first"
    tables = [_table(f"Clients of {view.label}, {words}", rows, most, attacker, folded)]
    missed = np.argsort(np.where(attacker, share, np.inf), kind="stable")[: min(MAX_MISSED, int(attacker.sum()))]
    if cut and missed.size:
        tables.append(_table(f"Attackers of {view.label} excluded least often", rows, missed, attacker, folded))
    return tables


def _table(
    title: str, rows: list[tuple[str, ...]], chosen: NDArray[np.int64], attacker: NDArray[np.bool_], folded: bool
) -> Table:
    return Table(
        title=title,
        columns=_COLUMNS,
        folded=folded,
        rows=tuple(rows[place] for place in chosen),
        num_text_columns=2,
        highlighted=frozenset(number for number, place in enumerate(chosen) if attacker[place]),
    )


def _clients(view: View) -> tuple[list[tuple[str, ...]], NDArray[np.bool_], NDArray[np.float64]]:
    columns = view.participation
    clients, first, place = np.unique(columns["client"], return_index=True, return_inverse=True)
    rounds = np.bincount(place, minlength=clients.size)
    out = np.bincount(place, weights=columns["excluded"], minlength=clients.size)
    attacker: NDArray[np.bool_] = columns["attacker"][first] == 1
    order = np.argsort(place, kind="stable")
    scores = [np.median(part) for part in np.split(columns["credit_score"][order], np.cumsum(rounds)[:-1])]
    weights = _last_known(columns["weight"], place, clients.size)
    rows: list[tuple[str, ...]] = [
        (
            str(clients[index]),
            "attacker" if attacker[index] else "honest",
            count(int(rounds[index])),
            count(int(out[index])),
            percent(out[index] / rounds[index], 0),
            number(float(scores[index]), 3),
            number(float(weights[index]), 3),
        )
        for index in range(clients.size)
    ]
    return rows, attacker, out / rounds


def _last_known(values: NDArray[np.float64], place: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    last = np.full(size, np.nan)
    known = ~np.isnan(values)
    last[place[known]] = values[known]  # rows are in order of rounds, and the last assignment stays
    return last
