"""Drawings as inline SVG that follows the page: its font, its ink on light or dark paper, no link to anywhere.

matplotlib draws ink in one colour that nothing else has; it is exchanged for `currentColor` afterwards. Many points are
drawn as one picture inside the SVG, which bounds the size of a page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
HONEST = "#2f86c1"
ATTACKER = "#e06c00"
# Okabe and Ito's colours, tuned to stand out on white and on black alike.
COLOURS = ("#2f86c1", "#e06c00", "#0a9a72", "#c4679d", "#b08d00", "#7a7fd6", "#6b7785", "#8c5a3c")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
MAX_VECTOR_POINTS = 1500
MAX_LINE_POINTS = 400
_DPI = 170
_WIDTH = 9.6
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **{"grid.color": INK, "grid.alpha": 0.13, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7},
    **{"font.size": 8.5, "lines.linewidth": 1.5},
    **{"legend.frameon": False, "legend.fontsize": 8.5, "legend.handlelength": 1.9},
    # A label is a folder name: a dollar sign in it is no formula.
    **{"text.parse_math": False, "axes.formatter.use_mathtext": False, "axes.unicode_minus": False},
    **{"svg.fonttype": "none", "savefig.transparent": True, "figure.constrained_layout.use": True},
}


class Drawing:
    """A figure of one or more panels side by side; fill `panels`, then take `svg`.

    Args:
        name: Unique within the page.
        num_panels: Panels side by side.
        height: Inches; the width is that of the page.
        ratios: Relative widths of the panels; equal without.
    """

    def __init__(
        self, name: str, num_panels: int = 1, *, height: float = 3.2, ratios: Sequence[float] | None = None
    ) -> None:
        import matplotlib
        from matplotlib.figure import Figure

        self._name = name
        self._style: Any = {**_STYLE, "svg.hashsalt": name}
        with matplotlib.rc_context(rc=self._style):
            self.figure: Figure = Figure(figsize=(_WIDTH, height))
            grid = self.figure.subplots(1, num_panels, squeeze=False, width_ratios=ratios)
        self.panels: list[Axes] = list(grid[0])

    def svg(self) -> str:
        """Return the drawing as text to put into a page; one legend above all panels names what has a label."""
        import matplotlib

        with matplotlib.rc_context(rc=self._style):
            self._add_legend()
            buffer = io.StringIO()
            self.figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
        return _inline(buffer.getvalue())

    def _add_legend(self) -> None:
        found: dict[str, Any] = {}
        for panel in self.panels:
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
                found.setdefault(label, handle)
        if found:
            columns = max(1, min(len(found), 140 // (max(map(len, found)) + 7)))
            self.figure.legend(
                found.values(),
                found.keys(),
                loc="outside upper left",
                ncols=columns,
                borderaxespad=0.2,
                markerscale=1.2,
            )


def round_axis(axes: Axes, num_rounds: int) -> None:
    """Label the x axis as rounds, whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round")
    axes.set_xlim(-0.6, max(num_rounds - 1, 0) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, steps=[1, 2, 5, 10]))


def percent_axis(axes: Axes, label: str) -> None:
    """Label the y axis as a percentage; the data are shares of 1."""
    axes.set_ylabel(f"{label} (%)")
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1], ["0", "20", "40", "60", "80", "100"])


def choose_scale(axes: Axes, values: NDArray[Any]) -> None:
    """Make the y axis logarithmic where the bulk of `values` spans more than a factor of 30, linear from 0 else."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    finite = values[np.isfinite(values)]
    positive = finite[finite > 0]
    low, high = np.percentile(positive, (2, 99.9)) if positive.size else (1.0, 1.0)
    if high > 30 * low:
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 1.3, positive.max() * 1.3)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0.0, float(finite.min(initial=0))), 1.07 * float(finite.max(initial=0)) or 1.0)


def add_title(axes: Axes, text: str) -> None:
    """Put a title above a panel, flush left."""
    axes.set_title(text, loc="left", fontsize=9, fontweight="bold")


def marker_of(num_points: int) -> str:
    """Return the marker of a line: dots where there are so few points that a line alone would hide them."""
    return "o" if num_points <= 12 else ""


def scatter(axes: Axes, x: NDArray[Any], y: NDArray[Any], *, total: int, **style: Any) -> None:
    """Draw points, as a picture where the drawing has more than `MAX_VECTOR_POINTS` (`total`) of them."""
    axes.scatter(x, y, rasterized=total > MAX_VECTOR_POINTS, **style)


def _inline(svg: str) -> str:
    """Return matplotlib's file as part of a page: without header, metadata, own style, own font and unused names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg, count=1)
    svg = svg.replace("xlink:href", "href").replace(INK, "currentColor")
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
