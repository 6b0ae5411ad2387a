"""How much each client's update counted: its coefficient and its scaling coefficient over rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.drawing import (
    ATTACKER,
    HONEST,
    MAX_LINE_POINTS,
    Drawing,
    add_title,
    choose_scale,
    marker_of,
    round_axis,
)
from hpcfsl.report.measures import evenly, rows_by_round, sample, spread
from hpcfsl.report.parts import Block, Note, Plot, Section
from hpcfsl.report.texts import count
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LINES = 24
_LEAD = (
    "The coefficient is the factor of a client's update in its group's update; 0 where it was excluded. The scaling "
    "coefficient is how strongly the credit score cut the client's weight."
)
_PANELS = (
    ("coefficient", "coefficient"),
    ("scaling", "scaling coefficient"),
)


def section(views: list[View]) -> Section:
    """Return coefficients and scaling coefficients of each run, attackers pointed out."""
    blocks: list[Block] = [_plot(view, number) for number, view in enumerate(views) if view.participation["round"].size]
    return Section(
        key="weights",
        title="Weights",
        lead=_LEAD,
        blocks=tuple(blocks) or (Note(text="No round was committed yet, so there are no weights."),),
    )


def _plot(view: View, number: int) -> Plot:
    drawing = Drawing(f"weights {number}", 2, height=3.3)
    columns = view.participation
    lines = _choose(columns["client"], columns["attacker"])
    for axes, (name, label) in zip(drawing.panels, _PANELS, strict=True):
        values = columns[name]
        choose_scale(axes, values)
        if not np.isfinite(values).any():
            axes.text(0.5, 0.5, "not recorded: weights are vectors", transform=axes.transAxes, ha="center")
        _lines(axes, view, values, lines)
        _middle(axes, view, values)
        axes.set_ylabel(label)
        round_axis(axes, view.num_rounds)
    add_title(drawing.panels[0], view.label)
    shown = len(lines)
    total = np.unique(columns["client"]).size
    return Plot(
        title=f"Coefficients of clients of {view.label}",
        svg=drawing.svg(),
        caption="Thin lines are clients, thick ones the median over all honest clients or all attackers, the shaded "
        "band holds the middle 80 % of honest clients. Attackers (orange) should lie below the band on the left and "
        "above it on the right. An honest client that stays low is being punished for unusual data."
        + (f" {shown} of {count(total)} clients have a line." if shown < total else ""),
    )


def _choose(client: NDArray[Any], attacker: NDArray[Any]) -> list[tuple[int, bool]]:
    """Return the clients that get a line, with the truth about them: at most `MAX_LINES` of each kind."""
    chosen = []
    for truth in (False, True):
        ids = np.unique(client[(attacker == 1) == truth])
        chosen += [(int(number), truth) for number in ids[sample(ids.size, MAX_LINES)]]
    return chosen


def _lines(axes: Axes, view: View, values: NDArray[Any], lines: list[tuple[int, bool]]) -> None:
    columns, shown = view.participation, evenly(view.num_rounds, MAX_LINE_POINTS)
    order = np.argsort(columns["client"], kind="stable")
    ids = columns["client"][order]
    for client, attacker in lines:
        rows = order[np.searchsorted(ids, client) : np.searchsorted(ids, client, side="right")]
        rows = rows[np.isin(columns["round"][rows], shown)]
        colour, alpha = (ATTACKER, 0.55) if attacker else (HONEST, 0.25)
        marker = "." if attacker else marker_of(shown.size)
        axes.plot(
            columns["round"][rows],
            values[rows],
            color=colour,
            alpha=alpha,
            linewidth=0.7,
            marker=marker,
            markersize=2.5,
        )


def _middle(axes: Axes, view: View, values: NDArray[Any]) -> None:
    columns, shown = view.participation, evenly(view.num_rounds, MAX_LINE_POINTS)
    for attacker, colour, name in ((False, HONEST, "honest clients"), (True, ATTACKER, "attackers")):
        chosen = (columns["attacker"] == 1) == attacker
        low, middle, high = spread(values[chosen], rows_by_round(columns["round"][chosen], view.num_rounds))[:, shown]
        if np.isnan(middle).all():
            continue
        if not attacker:
            axes.fill_between(
                shown, low, high, color=colour, alpha=0.18, linewidth=0, label="middle 80 % of honest clients"
            )
        axes.plot(
            shown,
            middle,
            color=colour,
            linewidth=2,
            marker=marker_of(shown.size),
            markersize=4,
            label=f"median of {name}",
        )
