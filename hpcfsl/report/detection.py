"""Credit scores against the threshold and the truth, and who was excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.curves import draw_line
from hpcfsl.report.drawing import (
    ATTACKER,
    HONEST,
    INK,
    MAX_LINE_POINTS,
    Drawing,
    add_title,
    choose_scale,
    percent_axis,
    round_axis,
    scatter,
)
from hpcfsl.report.exclusions import client_tables, summary_table
from hpcfsl.report.measures import evenly, rates, sample
from hpcfsl.report.parts import Block, Note, Plot, Section
from hpcfsl.report.texts import count
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 8000
_LEAD = (
    "Every update gets a credit score; a higher credit score is more suspicious. An update whose score is above the "
    "threshold is excluded. The truth is known here because attackers are simulated; the method never sees it."
)


def section(views: list[View]) -> Section:
    """Return scores of each run, rates over rounds of all, and tables of who was excluded."""
    seen = [view for view in views if view.participation["round"].size]
    if not seen:
        blocks: tuple[Block, ...] = (Note(text="No round was committed yet, so there are no scores."),)
        return Section(key="detection", title="Detection", lead=_LEAD, blocks=blocks)
    found: list[Block] = [summary_table(seen)]
    found += [_rates(views)] if any(view.participation["excluded"].any() or view.has_attackers for view in seen) else []
    for number, view in enumerate(seen):
        found += [_scores(view, number), *client_tables(view, folded=len(seen) > 1)]
    return Section(key="detection", title="Detection", lead=_LEAD, blocks=tuple(found))


def _rates(views: list[View]) -> Plot:
    drawing = Drawing("rates", 2, height=2.7)
    for number, view in enumerate(views):
        columns = view.participation
        each = [rates(columns["attacker"][rows], columns["excluded"][rows]) for rows in view.client_rows]
        draw_line(drawing.panels[0], np.array([found.true_positive for found in each]), number, label=view.label)
        draw_line(drawing.panels[1], np.array([found.false_positive for found in each]), number)
    for axes, whose in zip(drawing.panels, ("attackers'", "honest clients'"), strict=True):
        add_title(axes, f"{whose} updates excluded")
        percent_axis(axes, "share excluded")
        round_axis(axes, max(view.num_rounds for view in views))
    return Plot(
        title="Share of updates excluded over rounds",
        svg=drawing.svg(),
        caption="Left: true positive rate, best at 100 %. Right: false positive rate, best at 0 %. A line is missing "
        "where a run has no such clients.",
    )


def _scores(view: View, number: int) -> Plot:
    drawing = Drawing(f"scores {number}", height=3.6)
    axes, columns = drawing.panels[0], view.participation
    drawn = sample(columns["round"].size, MAX_POINTS)
    part = {name: columns[name][drawn] for name in ("round", "client", "credit_score", "attacker", "excluded")}
    choose_scale(axes, part["credit_score"])
    _points(axes, part)
    note = _threshold(axes, view)
    axes.set_ylabel("credit score")
    add_title(axes, view.label)
    round_axis(axes, view.num_rounds)
    left_out = columns["round"].size - drawn.size
    return Plot(
        title=f"Credit scores of {view.label}",
        svg=drawing.svg(),
        caption="One mark a client a round; higher is more suspicious. Detection works where orange marks lie above "
        "the line and blue ones below it. Orange triangles below the line are attackers that got through; blue crosses "
        f"are honest clients that were excluded. {note}"
        + (
            f" {count(drawn.size)} of {count(columns['round'].size)} marks are drawn, chosen at random."
            if left_out
            else ""
        ),
    )


def _points(axes: Axes, part: dict[str, NDArray[Any]]) -> None:
    # The place within a round is a function of the client, so a client stays in its column of the band.
    x = part["round"] + 0.66 * ((part["client"] * 0.6180339887) % 1 - 0.5)
    score = part["credit_score"]
    finite = np.isfinite(score) & ((score > 0) | (axes.get_yscale() == "linear"))
    looks = (
        ("honest, kept", 0, False, {"marker": "o", "s": 9, "color": HONEST, "alpha": 0.55, "linewidths": 0}),
        ("honest, excluded", 0, True, {"marker": "x", "s": 20, "color": HONEST, "linewidths": 1.3}),
        ("attacker, kept", 1, False, {"marker": "^", "s": 20, "color": ATTACKER, "linewidths": 0}),
        ("attacker, excluded", 1, True, {"marker": "x", "s": 20, "color": ATTACKER, "linewidths": 1.3}),
    )
    for label, attacker, out, style in looks:
        chosen = (part["attacker"] == attacker) & (part["excluded"] == out)
        rows = chosen & finite
        if rows.any():
            scatter(axes, x[rows], score[rows], total=score.size, label=label, **style)
        rows = chosen & ~np.isfinite(score)
        if rows.any():
            top = {**style, "marker": "+", "s": 22, "linewidths": 1.0, "transform": axes.get_xaxis_transform()}
            label = f"{'attacker' if attacker else 'honest'}, not finite"
            scatter(axes, x[rows], np.full(rows.sum(), 0.985), total=score.size, label=label, clip_on=False, **top)


def _threshold(axes: Axes, view: View) -> str:
    """Draw the threshold of each round as a step; return what to say about it."""
    low, high = _threshold_range(view)
    if np.isnan(low).all():
        return "No threshold is drawn, as it was infinite: only updates that are not finite can be excluded."
    rounds, middle = evenly(view.num_rounds, MAX_LINE_POINTS), (low + high) / 2
    x, y = rounds.astype(float), middle[rounds]
    if rounds.size == view.num_rounds:  # a dash each round, as thresholds are set anew each round
        x = np.repeat(x, 3) + np.tile([-0.45, 0.45, 0.45], rounds.size)
        y = np.repeat(y, 3)
        y[2::3] = np.nan
    axes.plot(x, y, color=INK, linewidth=1.4, label="threshold")
    if np.nanmax(high - low) <= 1e-12 * np.nanmax(np.abs(high)):
        return ""
    axes.fill_between(
        rounds, low[rounds], high[rounds], color=INK, alpha=0.12, linewidth=0, step="mid", label="thresholds of groups"
    )
    return "Thresholds differ between groups: the line is the middle of the shaded range."


def _threshold_range(view: View) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest finite threshold of each round, [rounds]; NaN where there is none."""
    values = view.participation["threshold"]
    low, high = np.full((2, view.num_rounds), np.nan)
    for number, rows in enumerate(view.client_rows):
        known = values[rows][np.isfinite(values[rows])]
        if known.size:
            low[number], high[number] = known.min(), known.max()
    return low, high
