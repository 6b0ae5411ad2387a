"""Lost clients and virtual time: shown where faults or the simulated clock were on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.curves import draw_line
from hpcfsl.report.drawing import COLOURS, DASHES, MAX_LINE_POINTS, Drawing, marker_of, percent_axis, round_axis
from hpcfsl.report.measures import evenly
from hpcfsl.report.parts import Block, Plot, Section, Table
from hpcfsl.report.texts import count, duration, percent
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def is_wanted(views: list[View]) -> bool:
    """Return whether any run had a clock, or a client with a fault."""
    return any(_has_clock(view) or bool(view.everybody["fault"].any()) for view in views)


def section(views: list[View]) -> Section:
    """Return accuracy over virtual time, lost clients over rounds and a table of all faults."""
    blocks: list[Block] = [_time(views)] if any(_has_clock(view) for view in views) else []
    blocks += [_lost(views), _table(views)]
    lead = "How long would it take on the simulated devices, and how many clients are lost on the way?"
    return Section(key="losses", title="Virtual time and faults", lead=lead, blocks=tuple(blocks))


def _time(views: list[View]) -> Plot:
    drawing = Drawing("virtual time", 2, height=2.9)
    accuracy, seconds = drawing.panels
    for number, view in enumerate(views):
        time = view.rounds["virtual_time"]
        if _has_clock(view):
            _draw_over(accuracy, time, view.rounds["test_accuracy"], number, label=view.label)
        draw_line(seconds, view.rounds["virtual_seconds"], number)
    percent_axis(accuracy, "test accuracy")
    accuracy.set_xlabel("virtual time (s)")
    accuracy.set_xlim(left=0)
    seconds.set_ylabel("virtual time of the round (s)")
    seconds.set_ylim(bottom=0)
    round_axis(seconds, max(view.num_rounds for view in views))
    return Plot(
        title="Test accuracy over virtual time",
        svg=drawing.svg(),
        caption="Left: accuracy against the time that the rounds would have taken on the simulated devices; the curve "
        "further left learns faster for its users. Right: what each round took, that is its slowest client or its "
        "deadline, and the exchange across groups.",
    )


def _lost(views: list[View]) -> Plot:
    drawing = Drawing("lost", height=2.3)
    axes = drawing.panels[0]
    shares = [100 * view.rounds["num_lost"] / np.maximum(view.rounds["num_participants"], 1) for view in views]
    for number, (view, share) in enumerate(zip(views, shares, strict=True)):
        draw_line(axes, share, number, label=view.label)
    axes.set_ylabel("clients lost (%)")
    axes.set_ylim(-0.2, max(5.0, 1.1 * float(np.concatenate(shares).max(initial=0))))
    round_axis(axes, max(view.num_rounds for view in views))
    return Plot(
        title="Lost clients over rounds",
        svg=drawing.svg(),
        caption="Share of the round's clients whose upload never arrived: they dropped out or were later than the "
        "deadline. They have no part in scores, thresholds, weights or sums.",
    )


def _table(views: list[View]) -> Table:
    names = views[0].run.labels("participation", "fault")
    counts = [np.bincount(view.everybody["fault"], minlength=len(names)) for view in views]
    rows = [
        (name, *(f"{count(int(found[code]))} ({percent(found[code] / found.sum())})" for found in counts))
        for code, name in enumerate(names)
        if any(found[code] for found in counts)
    ]
    if any(_has_clock(view) for view in views):
        rows.append(("virtual time", *(_last(view.rounds["virtual_time"]) for view in views)))
    return Table(
        title="Faults, all rounds",
        columns=("", *(view.label for view in views)),
        rows=tuple(rows),
        caption="Clients by what happened to them, counted once a round. After dropped-* and late the upload is lost; "
        "nan, infinity and huge arrive and are scored.",
    )


def _draw_over(axes: Axes, x: NDArray[Any], y: NDArray[Any], number: int, *, label: str) -> None:
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    known = known[evenly(known.size, MAX_LINE_POINTS)] if known.size else known
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
    axes.plot(x[known], y[known], color=colour, linestyle=dash, marker=marker_of(known.size), markersize=4, label=label)


def _has_clock(view: View) -> bool:
    return bool(np.isfinite(view.rounds["virtual_time"]).any())


def _last(values: NDArray[np.float64]) -> str:
    return duration(float(values[-1])) if values.size else duration(float("nan"))
