"""Bytes by kind and direction, counted by the simulation; what a real deployment would send."""

from __future__ import annotations

from hpcfsl.report.drawing import COLOURS, INK, Drawing
from hpcfsl.report.parts import Block, Note, Plot, Section, Table
from hpcfsl.report.texts import byte_size, byte_unit, percent
from hpcfsl.report.view import View

_KINDS = (
    ("up", "smashed data", "participation", "bytes_smashed_up"),
    ("up", "labels", "participation", "bytes_labels_up"),
    ("up", "output gradients", "participation", "bytes_output_gradients_up"),
    ("up", "model of clients", "participation", "bytes_model_up"),
    ("up", "across groups", "groups", "bytes_across_up"),
    ("down", "cut gradients", "participation", "bytes_gradients_down"),
    ("down", "server outputs", "participation", "bytes_outputs_down"),
    ("down", "model of clients", "participation", "bytes_model_down"),
    ("down", "across groups", "groups", "bytes_across_down"),
)
_COLOUR = dict(zip(dict.fromkeys(kind for _, kind, _, _ in _KINDS), COLOURS, strict=False))
Sizes = dict[tuple[str, str], int]


def section(views: list[View]) -> Section:
    """Return the bytes of each run, stacked by kind, and their totals."""
    sizes = [_sizes(view) for view in views]
    blocks: list[Block] = [_plot(views, sizes), _table(views, sizes)]
    if not any(sum(found.values()) for found in sizes):
        blocks = [Note(text="No round was committed yet, so nothing was sent.")]
    return Section(key="traffic", title="Traffic", lead="What has to travel, and which way?", blocks=tuple(blocks))


def _sizes(view: View) -> Sizes:
    tables = {"participation": view.everybody, "groups": view.groups}
    return {(direction, kind): int(tables[table][column].sum()) for direction, kind, table, column in _KINDS}


def _plot(views: list[View], sizes: list[Sizes]) -> Plot:
    drawing = Drawing("traffic", height=1.0 + 0.46 * len(views))
    axes = drawing.panels[0]
    totals = [_total(found, direction) for found in sizes for direction in ("up", "down")]
    factor, unit = byte_unit(max(totals))
    for number, found in enumerate(sizes):
        for offset, direction in ((-0.2, "up"), (0.2, "down")):
            left = 0.0
            for (way, kind), size in found.items():
                if way == direction:
                    axes.barh(number + offset, size / factor, 0.36, left=left, color=_COLOUR[kind], label=kind)
                    left += size / factor
            axes.annotate(
                f"{direction} {left:.3g}",
                (left, number + offset),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
    axes.set_yticks(range(len(views)), [view.label for view in views])
    axes.set_ylim(len(views) - 0.5, -0.5)
    axes.set_xlim(0, 1.12 * max(*totals, 1) / factor)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"bytes, all rounds ({unit})")
    return Plot(
        title="Bytes sent by kind and direction",
        svg=drawing.svg(),
        caption="Upper bar: from clients and groups; lower bar: to them. Smashed data and cut gradients grow with "
        "samples and epochs and shrink with a deeper cut; models grow with the client's half and with rounds.",
    )


def _table(views: list[View], sizes: list[Sizes]) -> Table:
    rows = [
        (
            direction,
            kind,
            *(f"{byte_size(found[direction, kind])} ({_part(found, direction, kind)})" for found in sizes),
        )
        for direction, kind in sizes[0]
    ]
    for direction in ("up", "down"):
        rows.append((direction, "total", *(byte_size(_total(found, direction)) for found in sizes)))
    rows.append(("both", "total", *(byte_size(sum(found.values())) for found in sizes)))
    return Table(
        title="Bytes, all rounds",
        columns=("direction", "kind", *(view.label for view in views)),
        rows=tuple(rows),
        num_text_columns=2,
        caption="In brackets: share of all bytes of the run.",
        highlighted=frozenset(range(len(_KINDS), len(rows))),
    )


def _part(found: Sizes, direction: str, kind: str) -> str:
    total = sum(found.values())
    return percent(found[direction, kind] / total if total else None)


def _total(found: Sizes, direction: str) -> int:
    return sum(size for (way, _), size in found.items() if way == direction)
