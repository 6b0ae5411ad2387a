"""The clients as a picture: a bubble for each client and class, or range of numbers, its area the number of samples.

Layer 4. Needs matplotlib (the extra `report`), which is imported when something is drawn. More clients than there is
room for are thinned evenly; of very many classes the commonest are shown. Both are said in the title. Clients that are
held out of training have a colour of their own.
"""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np

from hpcfsl.describe.description import Description, choose_evenly
from hpcfsl.errors import UserError
from hpcfsl.report.drawing import ATTACKER, COLOURS

_MOST_CLIENTS = 50
_MOST_CLASSES = 60
_STYLE: Any = {"font.size": 9.0, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
_CHARACTERS_AN_INCH = 11
_LARGEST_POINTS = 300.0  # square points: area of the largest bubble where there are few


def draw(found: Description) -> bytes:
    """Return a PNG: bubbles over clients and classes, and above them a bar for the samples of each client."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--picture: matplotlib is missing; run: pip install 'hpcfsl[report]'") from None
    places = _choose(found.trains)
    classes = np.sort(np.argsort(-found.shares, kind="stable")[:_MOST_CLASSES])
    with matplotlib.rc_context(rc=_STYLE):
        size = max(5.0, 1.6 + 0.19 * len(places)), max(4.0, 2.2 + 0.19 * len(classes))
        figure = Figure(figsize=size, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, size[1] - 2.0])
        title = _title(found, len(places), len(classes))
        figure.suptitle(textwrap.fill(title, max(1, int(size[0] * _CHARACTERS_AN_INCH))))
        above.bar(np.arange(len(places)), found.samples[places], color=_colours(found, places, COLOURS[6]), width=0.7)
        above.set_ylabel("samples")
        _bubbles(below, found, places, classes)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=130, metadata={"Software": None})
    return stream.getvalue()


def _bubbles(panel: Any, found: Description, places: Any, classes: Any) -> None:
    counts = found.counts[np.ix_(places, classes)]
    room = min(_LARGEST_POINTS, 150.0 * max(1.0, 10 / max(len(classes), len(places))))
    across, up = np.nonzero(counts)
    areas = room * counts[across, up] / counts.max()
    colours = np.array(_colours(found, places, COLOURS[0]))[across]
    panel.scatter(across, up, s=areas, color=colours, alpha=0.75, linewidths=0)
    panel.set_xticks(range(len(places)), [str(client) for client in found.clients[places]], rotation=90)
    panel.set_yticks(range(len(classes)), [found.kinds[label] for label in classes])
    panel.set(
        xlabel="client", ylabel=_name_kinds(found), xlim=(-0.8, len(places) - 0.2), ylim=(-0.8, len(classes) - 0.2)
    )
    panel.grid(alpha=0.2)
    panel.set_axisbelow(True)


def _choose(trains: Any) -> Any:
    """Return the places of clients that there is room for; of those held out too, where there are any."""
    training, apart = np.flatnonzero(trains), np.flatnonzero(~trains)
    room = max(_MOST_CLIENTS - len(apart), _MOST_CLIENTS // 2)
    return np.concatenate([training[choose_evenly(len(training), room)], _some(apart, _MOST_CLIENTS // 2)])


def _some(places: Any, most: int) -> Any:
    return places[choose_evenly(len(places), most)] if len(places) else places


def _colours(found: Description, places: Any, colour: str) -> list[str]:
    return [colour if trains else ATTACKER for trains in found.trains[places]]


def _name_kinds(found: Description) -> str:
    if not found.dataset.has_numbers:
        return "class"
    outputs = found.dataset.num_outputs
    return "number to predict" if outputs == 1 else f"mean of {outputs} numbers to predict"


def _title(found: Description, clients: int, classes: int) -> str:
    everybody, total = found.num_clients + found.num_held_out, len(found.kinds)
    few_clients = f"{clients} of {everybody:,} clients" if clients < everybody else f"{clients} clients"
    if found.num_held_out:
        few_clients += f" ({found.num_held_out:,} held out of training, in orange)"
    few_classes = f", the {classes} commonest of {total:,} classes" if classes < total else ""
    return f"{found.dataset.name}: {few_clients} by {found.rule}{few_classes}"
