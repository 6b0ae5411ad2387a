"""What `hpcfsl data describe` prints: the data, its clients, and a table with a line for each of them.

Layer 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from hpcfsl.describe.description import Description, choose_evenly

_WIDTH = 120
_MOST_COLUMNS = 12


def print_description(found: Description, *, clients: int) -> None:
    """Print the numbers, and a table of at most `clients` clients."""
    console = Console(width=_WIDTH, color_system=None, force_terminal=False)
    summary = Table(show_header=False, box=None, pad_edge=False)
    summary.add_column(style="bold", no_wrap=True)
    summary.add_column()
    for row in _summary(found):
        summary.add_row(*row)
    console.print(summary)
    if clients:
        console.print(_table(found, choose_evenly(len(found.clients), clients)))


def _summary(found: Description) -> Iterator[tuple[str, str]]:
    dataset = found.dataset
    kind = f"{dataset.vocabulary} symbols" if dataset.vocabulary else str(dataset.inputs.dtype)
    shape = " x ".join(map(str, dataset.sample_shape))
    owners = f"{dataset.num_owners:,} natural clients" if dataset.num_owners else "no natural clients"
    yield "data set", f"{dataset.name}: {len(dataset):,} samples of {shape} ({kind}), {dataset.num_classes:,} classes"
    yield "", f"{dataset.inputs.nbytes / 1e6:,.1f} MB of samples in memory; {owners}"
    own = "the data set's own" if found.own_test_set else "held out by the clients"
    yield "test set", f"{found.test_samples:,} samples, {own}"
    mean = found.train_samples / found.num_clients
    yield (
        "clients",
        f"{found.num_clients:,} by {found.rule}; {mean:,.1f} training samples each, {found.largest:,} at most",
    )
    if len(found.clients) < found.num_clients:
        yield "", f"of which {len(found.clients):,}, evenly spaced, are looked at below"
    low, middle, high = np.quantile(found.skew, [0.0, 0.5, 1.0])
    yield (
        "label skew",
        f"median {middle:.2f}, from {low:.2f} to {high:.2f}: distance of a client's classes from those of all",
    )
    yield "", "(total variation: 0 where they are alike, 1 where none is shared)"


def _table(found: Description, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Table:
    few = found.dataset.num_classes <= _MOST_COLUMNS
    extra = [f"{label}" for label in range(found.dataset.num_classes)] if few else ["classes", "commonest", "its share"]
    title = f"{len(places):,} of {found.num_clients:,} clients" if len(places) < found.num_clients else "clients"
    unit = "positions" if found.dataset.target_shape else "training samples"
    table = Table(title=f"{title}; {unit} of each class" if few else title, title_justify="left")
    for name in ("client", "owner", "training", "test", "skew", *extra):
        table.add_column(name, justify="right", no_wrap=True)
    for place in places:
        owner = str(found.owners[place]) if found.owners[place] >= 0 else "-"
        numbers = f"{found.samples[place]:,}", f"{found.held_out[place]:,}", f"{found.skew[place]:.2f}"
        counts = found.counts[place]
        commonest = str((counts > 0).sum()), str(counts.argmax()), f"{counts.max() / counts.sum():.0%}"
        table.add_row(str(found.clients[place]), owner, *numbers, *(map(str, counts) if few else commonest))
    return table
