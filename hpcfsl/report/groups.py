"""Groups: the share of attackers in them and how much their updates counted in the global update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.drawing import (
    ATTACKER,
    HONEST,
    INK,
    MAX_LINE_POINTS,
    Drawing,
    add_title,
    marker_of,
    round_axis,
    scatter,
)
from hpcfsl.report.measures import evenly, rows_by_round, sample
from hpcfsl.report.parts import Block, Note, Plot, Section
from hpcfsl.report.texts import count
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 4000
CAPTURED = 0.5
_LEAD = (
    "Groups are aggregated apart and then together. A group in which attackers are the majority is captured: its "
    "update is lost whatever is done within it, so the rule across groups has to turn it down."
)


def section(views: list[View]) -> Section:
    """Return, for each run, how much groups counted against their share of attackers and over rounds."""
    blocks: list[Block] = [_plot(view, number) for number, view in enumerate(views) if view.groups["round"].size]
    blocks = blocks or [Note(text="No round was committed yet, so there are no groups.")]
    return Section(key="groups", title="Groups", lead=_LEAD, blocks=tuple(blocks))


def _plot(view: View, number: int) -> Plot:
    drawing = Drawing(f"groups {number}", 2, height=3.1)
    columns = view.groups
    share = columns["num_attackers"] / np.maximum(columns["num_clients"], 1)
    rows = rows_by_round(columns["round"], view.num_rounds)
    parts = np.concatenate([columns["coefficient"][part] * max(part.stop - part.start, 1) for part in rows])
    drawn = sample(share.size, MAX_POINTS)
    _against_attackers(drawing.panels[0], share[drawn], parts[drawn])
    _over_rounds(drawing.panels[1], share, columns["coefficient"], rows)
    add_title(drawing.panels[0], view.label)
    captured = int((share > CAPTURED).sum())
    return Plot(
        title=f"Groups of {view.label}",
        svg=drawing.svg(),
        caption="Left: one mark a group a round; 1 is an equal part in the global update. Marks that sink to the right "
        "mean that groups with more attackers count less. Right: over rounds, what captured groups would hold if all "
        "groups counted alike (dashed), and what they held (orange); orange should be the lower one. "
        f"{count(captured)} of {count(share.size)} groups were captured.",
    )


def _against_attackers(axes: Axes, share: NDArray[np.float64], parts: NDArray[np.float64]) -> None:
    jitter = 1.2 * ((np.arange(share.size) * 0.6180339887) % 1 - 0.5)
    for chosen, colour, marker, label in (
        (share <= CAPTURED, HONEST, "o", "group with an honest majority"),
        (share > CAPTURED, ATTACKER, "^", "captured group"),
    ):
        if chosen.any():
            style: dict[str, Any] = {"color": colour, "marker": marker, "alpha": 0.6, "s": 14, "linewidths": 0}
            x = 100 * share[chosen] + jitter[chosen]
            scatter(axes, x, parts[chosen], total=share.size, label=label, **style)
    axes.axhline(1, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlabel("attackers in the group (%)")
    axes.set_ylabel("part in the global update (1 = equal)")
    axes.set_xlim(-3, 103)
    axes.set_ylim(bottom=-0.05)


def _over_rounds(axes: Axes, share: NDArray[np.float64], coefficient: NDArray[np.float64], rows: list[slice]) -> None:
    captured = share > CAPTURED
    alike = np.array([captured[part].mean() if part.stop > part.start else np.nan for part in rows])
    held = np.array([coefficient[part][captured[part]].sum() for part in rows])
    x = evenly(len(rows), MAX_LINE_POINTS)
    style: dict[str, Any] = {"marker": marker_of(x.size), "markersize": 4}
    axes.plot(x, 100 * held[x], color=ATTACKER, label="part of captured groups in the global update", **style)
    axes.plot(x, 100 * alike[x], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="captured share of groups")
    axes.set_ylabel("captured groups (%)")
    top = max(10.0, 107 * float(np.nanmax([*alike, *held], initial=0)))
    axes.set_ylim(-0.02 * top, top)
    round_axis(axes, len(rows))
