"""Where the time went: by phase over rounds, and by rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.drawing import COLOURS, Drawing, add_title, round_axis
from hpcfsl.report.parts import Block, Note, Plot, Section, Table
from hpcfsl.report.texts import count, duration
from hpcfsl.report.view import View
from hpcfsl.trace.schema import PHASES

MAX_BARS = 60
MAX_RANKS = 48


def section(views: list[View]) -> Section:
    """Return seconds by phase over rounds and a table by rank, for each run."""
    blocks: list[Block] = []
    for number, view in enumerate(views):
        if view.timings["round"].size:
            blocks += [_plot(view, number), _table(view)]
    return Section(
        key="timing",
        title="Time",
        lead="Where does the time of a round go, and does one rank keep the others waiting?",
        blocks=tuple(blocks) or (Note(text="No times were recorded yet."),),
    )


def _plot(view: View, number: int) -> Plot:
    seconds = _slowest(view)
    width = max(1, -(-view.num_rounds // MAX_BARS))
    starts = np.arange(0, view.num_rounds, width)
    means = np.add.reduceat(seconds, starts, axis=1) / np.diff([*starts, view.num_rounds])
    drawing = Drawing(f"timing {number}", height=2.8)
    axes, bottom = drawing.panels[0], np.zeros(starts.size)
    factor, unit = (1000, "ms") if means.sum(axis=0).max() < 1 else (1, "s")
    for phase, name in enumerate(PHASES):
        if means[phase].any():
            height = factor * means[phase]
            centres = starts + (width - 1) / 2
            axes.bar(centres, height, 0.82 * width, bottom=bottom, color=COLOURS[phase], label=name)
            bottom = bottom + height
    axes.set_ylabel(f"time of a round ({unit})")
    add_title(axes, view.label)
    round_axis(axes, view.num_rounds)
    return Plot(
        title=f"Time by phase of {view.label}",
        svg=drawing.svg(),
        caption="Each phase counts the slowest rank, the one that the others wait for; phases may overlap on different "
        "ranks, so a bar can be a little taller than the round was long. Training should be nearly all of it."
        + (f" A bar is the mean of {width} rounds." if width > 1 else ""),
    )


def _slowest(view: View) -> NDArray[np.float64]:
    """Return the seconds of the slowest rank, [phases, rounds]."""
    timings = view.timings
    seconds = np.zeros((len(PHASES), view.num_rounds))
    known = np.isfinite(timings["seconds"]) & (timings["round"] >= 0) & (timings["round"] < view.num_rounds)
    np.maximum.at(seconds, (timings["phase"][known], timings["round"][known]), timings["seconds"][known])
    return seconds


def _table(view: View) -> Table:
    timings, known = view.timings, np.isfinite(view.timings["seconds"])
    ranks = np.unique(timings["rank"])
    totals = np.zeros((ranks.size, len(PHASES)))
    np.add.at(
        totals, (np.searchsorted(ranks, timings["rank"][known]), timings["phase"][known]), timings["seconds"][known]
    )
    # The busiest and the idlest ranks say most; with few ranks all are there, in order.
    order = np.arange(ranks.size)
    if ranks.size > MAX_RANKS:
        by_load = np.argsort(-totals[:, PHASES.index("train")], kind="stable")
        order = np.sort(np.concatenate([by_load[: MAX_RANKS // 2], by_load[-MAX_RANKS // 2 :]]))
    cut = (
        f", the {MAX_RANKS // 2} that trained longest and shortest of {count(ranks.size)}"
        if ranks.size > MAX_RANKS
        else ""
    )
    return Table(
        title=f"Time by rank of {view.label}{cut}",
        columns=("rank", "host", "device", "threads", *PHASES, "all"),
        rows=tuple(_row(view, int(ranks[index]), totals[index]) for index in order),
        num_text_columns=3,
        caption="Sums over all rounds. Ranks that train much less than others wait for them.",
    )


def _row(view: View, rank: int, totals: NDArray[np.float64]) -> tuple[str, ...]:
    ranks = view.ranks
    found = np.flatnonzero(ranks["rank"] == rank)
    # A rank of an earlier start, with more ranks than the last one, has times and no entry in it.
    place = ("", "", "")
    if found.size:
        row = found[0]
        place = (ranks["host"][row].decode(), ranks["device"][row].decode(), str(ranks["threads"][row]))
    return (str(rank), *place, *(duration(float(seconds)) for seconds in totals), duration(float(totals.sum())))
