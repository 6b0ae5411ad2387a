"""All metrics of the kind of task beside the naive baseline, and how they spread over clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.curves import TITLES, draw_metric
from hpcfsl.report.drawing import COLOURS, MAX_LINE_POINTS, Drawing, choose_scale, percent_axis
from hpcfsl.report.measures import evenly
from hpcfsl.report.parts import Block, Note, Plot, Section, Table
from hpcfsl.report.texts import join_words, number, percent
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARES = ("accuracy", "macro-f1", "smashed-error")
_FURTHER = ("macro-f1", "perplexity", "mae", "r2")
_WHOSE = {
    "test": "test set",
    "clients": "clients' own test samples",
    "held-out-clients": "held-out clients",
    "naive": "naive baseline on the test set",
}


def section(views: list[View]) -> Section:
    """Return curves of further metrics, their last values, and their spread over clients where it was measured."""
    further = [name for name in _FURTHER if any(name in view.metrics["test"] for view in views)]
    blocks: list[Block] = [_curves(views, further)] if further else []
    blocks += [_table(views)]
    for name in ("accuracy", "mae"):
        if any(_known(rows, name).size for view in views for rows in view.clients_tested.values()):
            blocks.append(_spread(views, name))
    if any(_has_personal_parts(view) and "held-out-clients" in view.metrics for view in views):
        blocks.append(Note(text="Held-out clients have no part of the model of their own: the averaged one is tested."))
    lead = "How good is the model, beside a guess that knows no sample's inputs, and for whom?"
    return Section(key="quality", title="Metrics", lead=lead, blocks=tuple(blocks))


def _curves(views: list[View], names: list[str]) -> Plot:
    drawing = Drawing("metrics", len(names), height=2.7)
    for axes, name in zip(drawing.panels, names, strict=True):
        draw_metric(axes, views, name)
    return Plot(
        title=f"Test {join_words([TITLES[name] for name in names])} over rounds",
        svg=drawing.svg(),
        caption=" ".join(_MEANING[name] for name in names),
    )


_MEANING = {
    "macro-f1": "Macro-F1 is the mean over classes of the harmonic mean of precision and recall; a class that is never "
    "found weighs as much as any other.",
    "perplexity": "Perplexity is e to the mean loss: among how many equally likely symbols the model still hesitates.",
    "mae": "The mean absolute error is what a prediction is off by, in the units of the data.",
    "r2": "R2 is the share of the test set's variance that the model explains: 0 for its mean, 1 for no error.",
}


def _table(views: list[View]) -> Table:
    """Return one row for each run and whose samples it was tested on, one column a metric."""
    found = {name for view in views for metrics in view.metrics.values() for name in metrics}
    names = [name for name in TITLES if name in found]
    rows = [
        (view.label, _WHOSE[whose], *(_text(name, view.last(whose, name)) for name in names))
        for view in views
        for whose in _WHOSE
        if whose in view.metrics
    ]
    return Table(
        title="Last measured",
        columns=("run", "samples", *(TITLES[name] for name in names)),
        rows=tuple(rows),
        num_text_columns=2,
        caption="The naive baseline predicts the commonest class, symbols by their frequency, numbers by their mean in "
        "training, or forecasts by the last known value. MAE and RMSE are in the units of the data.",
    )


def _spread(views: list[View], name: str) -> Plot:
    drawing = Drawing(f"{name} of clients", height=2.7)
    axes, values = drawing.panels[0], []
    for place, view in enumerate(views):
        for whose, rows in view.clients_tested.items():
            known = np.sort(_known(rows, name))
            values.append(known)
            _draw_sorted(axes, known, COLOURS[place % len(COLOURS)], f"{view.label}: {_WHOSE[whose]}", whose)
    axes.set_xlabel("share of the clients, worst first (%)" if name == "accuracy" else "share of the clients (%)")
    if name == "accuracy":
        percent_axis(axes, "client accuracy")
    else:
        axes.set_ylabel(f"client {TITLES[name]} (units of the data)")
        choose_scale(axes, np.concatenate(values))
    return Plot(
        title=f"Client {TITLES[name]}, sorted, at the last evaluation",
        svg=drawing.svg(),
        caption="Each point is a client; the steeper the curve, the more unequally the model serves them. Held-out "
        "clients (crosses) never train.",
    )


def _draw_sorted(axes: Axes, values: NDArray[Any], colour: str, label: str, whose: str) -> None:
    shares = 100 * (np.arange(values.size) + 0.5) / max(values.size, 1)
    shown = evenly(values.size, MAX_LINE_POINTS) if values.size else np.zeros(0, np.int64)
    style: dict[str, Any] = {"marker": "x", "linestyle": ":"} if whose == "held-out-clients" else {"marker": "o"}
    axes.plot(shares[shown], values[shown], color=colour, label=label, markersize=4, linewidth=1.0, **style)


def _known(rows: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    known: NDArray[Any] = rows[name][~np.isnan(rows[name])]
    return known


def _text(name: str, value: float | None) -> str:
    return percent(value, 2) if name in _SHARES else number(value)


def _has_personal_parts(view: View) -> bool:
    return view.setting("protocol", "name") == "splitfed-v3" or bool(view.setting("protocol", "personal"))
