"""The first metric of the kind of task (accuracy, or RMSE of numbers) and loss over rounds, all runs in one drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.report.drawing import (
    COLOURS,
    DASHES,
    MAX_LINE_POINTS,
    Drawing,
    add_title,
    choose_scale,
    marker_of,
    percent_axis,
    round_axis,
)
from hpcfsl.report.measures import evenly
from hpcfsl.report.parts import Block, Note, Plot, Section
from hpcfsl.report.texts import join_words
from hpcfsl.report.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"accuracy": "accuracy", "macro-f1": "macro-F1", "perplexity": "perplexity"}
TITLES |= {"loss": "loss", "mae": "MAE", "rmse": "RMSE", "r2": "R2", "smashed-error": "error of smashed data"}
"""Metrics as people write them."""

_FIRST = {
    "accuracy": "Left: share of the global test set classed right after each round; higher is better.",
    "rmse": "Root mean squared error on the global test set after each round, in the units of the data; lower is "
    "better.",
}


def section(views: list[View]) -> Section:
    """Return the curves of accuracy and loss, and the spread of accuracy over clients where it was measured."""
    blocks: list[Block] = [_curves(views)]
    blocks += [_clients(views)] if any(_measured(view, "client_accuracy_mean") for view in views) else []
    if not any(view.metrics["test"] for view in views):
        blocks.append(
            Note(text="No round was evaluated on the test set; evaluation.every sets how often that is done.")
        )
    title = "Accuracy and loss" if _first_metrics(views) != ["rmse"] else "Error and loss"
    return Section(key="curves", title=title, lead="Does the global model learn?", blocks=tuple(blocks))


def draw_line(axes: Axes, values: NDArray[Any], number: int, **style: Any) -> None:
    """Draw the known values of one run, `number`, over its rounds; a run has a colour and a dash of its own."""
    known = np.flatnonzero(np.isfinite(values))
    known = known[evenly(known.size, MAX_LINE_POINTS)] if known.size else known
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
    defaults = {"color": colour, "linestyle": dash, "marker": marker_of(known.size), "markersize": 4}
    axes.plot(known, values[known], **{**defaults, **style})


def _curves(views: list[View]) -> Plot:
    names = _first_metrics(views)
    drawing = Drawing("curves", 1 + len(names))
    *firsts, loss = drawing.panels
    for axes, name in zip(firsts, names, strict=True):
        draw_metric(axes, views, name)
    for number, view in enumerate(views):
        draw_line(loss, view.rounds["test_loss"], number)
        draw_line(loss, view.rounds["train_loss"], number, linestyle=(0, (1, 1.5)), linewidth=1.1)
    loss.plot([], [], color="#808080", label="test loss")
    loss.plot([], [], color="#808080", linestyle=(0, (1, 1.5)), label="training loss")
    choose_scale(loss, _bearable(views))
    loss.set_ylabel("mean loss a sample" + ("" if "rmse" in names else " (nats)"))
    for axes in drawing.panels:
        round_axis(axes, max(view.num_rounds for view in views))
    return Plot(
        title=f"Test {join_words([*(TITLES[name] for name in names), 'loss'])} over rounds",
        svg=drawing.svg(),
        caption=" ".join(
            [
                *(_FIRST[name] for name in names),
                "Thin flat lines are the naive baseline, dashed ones the clients that never train, where there are any."
                " Right: mean loss on the test set and over the participants' training samples (dotted); lower is "
                "better. Attackers' training samples count too, so the training loss stays higher under an attack on "
                "labels. A loss of more than ten times the first one is cut off: such a run has diverged.",
            ]
        ),
    )


def draw_metric(axes: Axes, views: list[View], name: str) -> None:
    """Draw a metric of all runs: on the test set, of the naive baseline (flat) and of held-out clients (dashed)."""
    shown = []
    for number, view in enumerate(views):
        values, apart = (view.metrics.get(key, {}).get(name) for key in ("test", "held-out-clients"))
        if values is None:
            continue
        colour, naive = COLOURS[number % len(COLOURS)], view.last("naive", name)
        draw_line(axes, values, number, label=view.label)
        if apart is not None:
            draw_line(axes, apart, number, linestyle=(0, (3, 1.5)), linewidth=1.1, marker="")
        if naive is not None:
            axes.axhline(naive, color=colour, linewidth=0.8, alpha=0.8)
        shown += [values, np.array([naive or 0.0])] + ([] if apart is None else [apart])
    if any("held-out-clients" in view.metrics for view in views):
        axes.plot([], [], color="#808080", linestyle=(0, (3, 1.5)), linewidth=1.1, label="held-out clients")
    if any(view.last("naive", name) is not None for view in views):
        axes.plot([], [], color="#808080", linewidth=0.8, label="naive baseline")
    _scale(axes, name, np.concatenate(shown or [np.zeros(1)]))
    round_axis(axes, max(view.num_rounds for view in views))


def _scale(axes: Axes, name: str, values: NDArray[np.float64]) -> None:
    if name in ("accuracy", "macro-f1"):
        percent_axis(axes, f"test {TITLES[name]}")
        return
    axes.set_ylabel(f"test {TITLES[name]}" + (" (units of the data)" if name in ("rmse", "mae") else ""))
    if name == "r2":
        low = float(np.nanmin(values, initial=0.0))
        axes.set_ylim(max(low, -1.0) - 0.03, 1.02)
    else:
        choose_scale(axes, values)


def _first_metrics(views: list[View]) -> list[str]:
    """Return the first metric of each kind of task among the runs; accuracy where nothing was tested."""
    return [name for name in ("accuracy", "rmse") if any(name in view.metrics["test"] for view in views)] or [
        "accuracy"
    ]


def _bearable(views: list[View]) -> NDArray[np.float64]:
    """Return all losses up to ten times the first ones, so that a run that diverged leaves room for the others."""
    losses = [view.rounds[name] for view in views for name in ("test_loss", "train_loss")]
    firsts = [values[np.isfinite(values)][:1] for values in losses]
    limit = 10 * float(np.concatenate(firsts).max(initial=0))
    bearable: NDArray[np.float64] = np.minimum(np.concatenate(losses), limit)
    return bearable


def _clients(views: list[View]) -> Plot:
    drawing = Drawing("clients", min(len(views), 3), height=2.7)
    shown = [view for view in views if _measured(view, "client_accuracy_mean")][: len(drawing.panels)]
    for number, (axes, view) in enumerate(zip(drawing.panels, shown, strict=False)):
        _band(axes, view, views.index(view), labelled=number == 0)
    for axes in drawing.panels[len(shown) :]:
        axes.set_axis_off()
    more = f" The first {len(shown)} runs are shown." if len(views) > 3 else ""
    return Plot(
        title="Accuracy over clients",
        svg=drawing.svg(),
        caption="Accuracy on each client's own held-out samples. A wide band means that the model serves some clients "
        "much worse than others; a low lower edge is where to look for clients left behind." + more,
    )


def _band(axes: Axes, view: View, number: int, *, labelled: bool) -> None:
    rounds, colour = view.rounds, COLOURS[number % len(COLOURS)]
    x = np.flatnonzero(~np.isnan(rounds["client_accuracy_mean"]))
    x = x[evenly(x.size, MAX_LINE_POINTS)]
    part = {name: rounds[f"client_accuracy_{name}"][x] for name in ("min", "p10", "median", "max")}
    for low, high, alpha, label in (
        ("min", "max", 0.13, "worst to best client"),
        ("p10", "max", 0.2, "without worst 10 %"),
    ):
        axes.fill_between(
            x, part[low], part[high], color=colour, alpha=alpha, linewidth=0, label=label if labelled else None
        )
    axes.plot(x, part["median"], color=colour, marker=marker_of(x.size), label="median client" if labelled else None)
    add_title(axes, view.label)
    percent_axis(axes, "client accuracy")
    round_axis(axes, view.num_rounds)


def _measured(view: View, name: str) -> bool:
    return bool((~np.isnan(view.rounds[name])).any())
