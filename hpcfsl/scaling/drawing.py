"""The picture of docs/scaling.md: weak and strong scaling, and what the time of a round is made of.

Layer 4. Needs matplotlib (the extra `report`), which is imported when something is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcfsl.report.drawing import COLOURS
from hpcfsl.scaling.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RULES = {"weighted": "weighted mean", "distances": "geometric median"}
_CAUSES = ("compute", "stragglers", "reduction", "distances", "recording", "input and output")
_STYLE: Any = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def draw(curves: Sequence[Curve]) -> bytes:
    """Return a PNG: above efficiency, below the causes of the seconds with a weighted mean across groups."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc=_STYLE):
        figure = Figure(figsize=(10.0, 6.6), layout="constrained")
        panels = figure.subplots(2, 4)
        for column, kind in enumerate(("weak", "strong")):
            chosen = [each for each in curves if each.kind == kind]
            _efficiency(figure.add_subplot(panels[0, 0].get_gridspec()[0, 2 * column : 2 * column + 2]), kind, chosen)
            for panel in panels[0, 2 * column : 2 * column + 2]:
                panel.remove()
            plain = [each for each in chosen if each.rule == "weighted"]
            for panel, each in zip(panels[1, 2 * column : 2 * column + 2], plain, strict=True):
                _causes(panel, each)
        handles, labels = panels[1, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()


def _efficiency(panel: Axes, kind: str, curves: Sequence[Curve]) -> None:
    sizes = sorted({each.params for each in curves})
    for each in curves:
        panel.plot(
            [point.ranks for point in each.points],
            [100 * point.efficiency for point in each.points],
            color=COLOURS[sizes.index(each.params)],
            linestyle="-" if each.rule == "weighted" else "--",
            marker="o" if each.rule == "weighted" else "s",
            markersize=3,
            label=f"{each.params:.0e} parameters, {_RULES[each.rule]}".replace("e+0", "e"),
        )
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1024"])
    panel.set_ylim(0, 108)
    panel.set_xlabel("ranks")
    panel.set_ylabel("efficiency, %")
    panel.set_title(f"{kind} scaling", loc="left")
    panel.legend(fontsize=8, loc="lower left")


def _causes(panel: Axes, each: Curve) -> None:
    ranks = range(len(each.points))
    values = [[point.round.terms.get(name, 0.0) for point in each.points] for name in _CAUSES]
    values.append([point.round.seconds - sum(row[i] for row in values) for i, point in enumerate(each.points)])
    shares = [[v / p.round.seconds * 100 for v, p in zip(row, each.points, strict=True)] for row in values]
    panel.stackplot(ranks, shares, labels=[*_CAUSES, "other"], colors=COLOURS)
    panel.set_xlim(0, len(each.points) - 1)
    panel.set_ylim(0, 100)
    panel.set_xticks([0, 4, 8, 10], ["1", "16", "256", "1024"])
    panel.set_xlabel("ranks")
    panel.set_ylabel("share of a round, %")
    panel.set_title(f"{each.kind}, {each.params:.0e} parameters".replace("e+0", "e"), loc="left")
