"""What `hpcfsl models` prints: a table of all models and their cuts, or one model with its cuts and settings.

Layer 4.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from hpcfsl.describe.catalogue import Entry

if TYPE_CHECKING:
    from hpcfsl.models.operations import CutCost

_WIDTH = 120
_NUMBERS = ("client parameters", "server parameters", "client MFLOP", "server MFLOP", "smashed data")


def print_models(entries: list[Entry], refused: list[str]) -> None:
    """Print a table for each kind of model, and the names of those that cannot take the samples."""
    console = _console()
    for kind, group in groupby(entries, lambda entry: entry.settings.kind):
        console.print(_table_of(kind, list(group)))
    if refused:
        console.print(f"cannot take such samples: {', '.join(refused)}", soft_wrap=True)
    console.print("* the default. MFLOP: millions of operations of training on one sample, forward and backward.")
    console.print("hpcfsl models NAME says what each cut of a model means.")


def print_model(entry: Entry) -> None:
    """Print one model: what it is, its cuts with what they mean, its settings."""
    console = _console()
    console.print(f"{entry.name} ({entry.settings.kind}): {inspect.getdoc(type(entry.settings))}", soft_wrap=True)
    console.print(f"{entry.parameters:,} parameters for {samples_of(entry)}\n", soft_wrap=True)
    table = _table("cut", *_NUMBERS)
    for cut in entry.cuts:
        table.add_row(_marked(entry, cut), *numbers_of(cut))
    console.print(table)
    for name, sentence in meanings(entry).items():
        console.print(f"  {name}: {sentence}", soft_wrap=True)
    console.print("\nsettings of \\[model]:")
    for key, field in type(entry.settings).model_fields.items():
        value = json.dumps(entry.settings.model_dump(mode="json")[key])
        console.print(f"  {key} = {value}: {' '.join((field.description or '').split())}", soft_wrap=True, markup=False)


def meanings(entry: Entry) -> dict[str, str]:
    """Return the sentence on each cut point, by name; cut points that share one by their common name."""
    named = {cut.name: entry.settings.explain_cut(cut.name) for cut in entry.cuts}
    texts = {sentence: name for name, sentence in entry.settings.cuts.items()}
    return {texts.get(sentence, name): sentence for name, sentence in named.items() if sentence}


def numbers_of(cut: CutCost) -> Iterator[str]:
    """Yield the cells of a cut's numbers, in the order of the columns."""
    yield f"{cut.client_parameters:,}"
    yield f"{cut.server_parameters:,}"
    yield _millions(cut.operations.client)
    yield _millions(cut.operations.server)
    shape = " x ".join(map(str, cut.smashed_shape))
    yield f"{shape} = {cut.smashed_numbers:,}" if len(cut.smashed_shape) > 1 else f"{cut.smashed_numbers:,}"


def samples_of(entry: Entry) -> str:
    """Return in words what a model was built for."""
    samples = entry.samples
    shape = " x ".join(map(str, samples.shape))
    symbols = f" of {samples.vocabulary:,} symbols" if samples.vocabulary else ""
    each = " at each position" if samples.target_shape and samples.predicts == "classes" else ""
    title = f" ({samples.title})" if samples.title else ""
    return f"samples of {shape}{symbols}{title}, {samples.num_outputs:,} {samples.predicts}{each}"


def _table_of(kind: str, entries: list[Entry]) -> Table:
    table = _table("model", "cut", *_NUMBERS, title=f"{kind} models")
    for entry in entries:
        table.add_section()
        for place, cut in enumerate(entry.cuts):
            table.add_row(entry.name if place == 0 else "", _marked(entry, cut), *numbers_of(cut))
        if not entry.cuts:
            table.add_row(entry.name, "none", f"{entry.parameters:,}", "0", "", "", "")
    return table


def _table(*names: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in ("model", "cut") else "right", no_wrap=name != _NUMBERS[-1])
    return table


def _marked(entry: Entry, cut: CutCost) -> str:
    return f"{cut.name} *" if cut.name == entry.settings.cut else cut.name


def _millions(operations: int) -> str:
    return f"{operations / 1e6:,.3f}"


def _console() -> Console:
    return Console(width=_WIDTH, color_system=None, force_terminal=False, highlight=False)
