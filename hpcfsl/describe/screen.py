"""What `hpcfsl data describe` prints: the data, its clients, and a table with a line for each of them.

Layer 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
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
    for row in (*_of_data(found), *_of_clients(found)):
        summary.add_row(*row)
    console.print(summary)
    if clients:
        console.print(_table(found, choose_evenly(len(found.clients), clients)))


def _of_data(found: Description) -> Iterator[tuple[str, str]]:
    dataset = found.dataset
    kind = f"{dataset.vocabulary} symbols" if dataset.vocabulary else str(dataset.inputs.dtype)
    shape = " x ".join(map(str, dataset.sample_shape))
    task = f"{dataset.num_outputs:,} numbers to predict" if dataset.has_numbers else f"{dataset.num_classes:,} classes"
    if dataset.has_numbers and dataset.num_outputs == 1:
        task = "a number to predict"
    owners = f"{dataset.num_owners:,} natural clients" if dataset.num_owners else "no natural clients"
    yield "data set", f"{dataset.name}: {len(dataset):,} samples of {shape} ({kind}), {task}"
    yield "", f"{dataset.inputs.nbytes / 1e6:,.1f} MB of samples in memory; {owners}"
    if found.note:
        yield "targets", found.note
    own = "the data set's own" if found.own_test_set else "held out by the clients"
    yield "test set", f"{found.test_samples:,} samples, {own}"
    if dataset.test_owners is not None and dataset.num_test_only_owners:
        strangers = int((dataset.test_owners >= dataset.num_owners).sum())
        yield "", f"{strangers:,} of them are of {dataset.num_test_only_owners:,} owners who have nothing to train on"


def _of_clients(found: Description) -> Iterator[tuple[str, str]]:
    mean = found.train_samples / found.num_clients
    yield (
        "clients",
        f"{found.num_clients:,} by {found.rule}; {mean:,.1f} training samples each, {found.largest:,} at most",
    )
    if found.num_held_out:
        yield "", f"{found.num_held_out:,} more are held out of training; the table has their samples under test"
    if found.trains.sum() < found.num_clients:
        yield "", f"of which {found.trains.sum():,}, evenly spaced, are looked at below"
    low, middle, high = np.quantile(found.skew[found.trains], [0.0, 0.5, 1.0])
    what = "numbers, by ranges," if found.dataset.has_numbers else "classes"
    yield (
        "label skew",
        f"median {middle:.2f}, from {low:.2f} to {high:.2f}: distance of a client's {what} from those of all",
    )
    yield "", "(total variation: 0 where they are alike, 1 where none is shared)"


def _table(found: Description, places: NDArray[np.int64]) -> Table:
    count = len(found.trains) if found.trains.sum() == found.num_clients else found.num_clients + found.num_held_out
    title = f"{len(places):,} of {count:,} clients" if len(places) < count else "clients"
    extra: tuple[str, ...] = "classes", "commonest", "its share"
    if found.targets is not None:
        outputs = found.dataset.num_outputs
        title += "; numbers to predict" if outputs == 1 else f"; means of {outputs} numbers to predict"
        extra = "mean", "deviation"
    elif len(found.kinds) <= _MOST_COLUMNS:
        title += f"; {'positions' if found.dataset.target_shape else 'training samples'} of each class"
        extra = found.kinds
    table = Table(title=title, title_justify="left")
    for name in ("client", "owner", "training", "test", "skew", *extra):
        table.add_column(name, justify="right", no_wrap=True)
    for place in places:
        table.add_row(*_line(found, int(place)))
    return table


def _line(found: Description, place: int) -> Iterator[str]:
    """Yield the cells of a client; what is held out has no training samples and is tested on all it has."""
    trains, samples, tested = found.trains[place], found.samples[place], found.held_out[place]
    counts = found.counts[place]
    yield str(found.clients[place])
    yield str(found.owners[place]) if found.owners[place] >= 0 else "-"
    yield f"{samples:,}" if trains else "-"
    yield f"{tested if trains else samples + tested:,}"
    yield f"{found.skew[place]:.2f}"
    if found.targets is not None:
        yield from (f"{number:.4g}" for number in found.targets[place])
    elif len(found.kinds) <= _MOST_COLUMNS:
        yield from map(str, counts)
    else:
        yield from (str((counts > 0).sum()), str(counts.argmax()), f"{counts.max() / counts.sum():.0%}")
