"""What a person sees in the terminal: the live bar, the final table, the summary of `inspect`.

Layer 5. `mpirun` forwards output through pipes, so no rank sees a terminal there; `HPCFSL_PROGRESS=1` asks for the live
bar all the same (the job scripts set it when they run in a terminal themselves), `HPCFSL_PROGRESS=0` switches it off.
Without a bar, root prints one line every few rounds.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from hpcfsl.trace.inspect import summary
from hpcfsl.trace.progress import NAMES, headline

if TYPE_CHECKING:
    from hpcfsl.simulation import Listener
    from hpcfsl.simulation import Progress as Round
    from hpcfsl.trace.reader import Run

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.1
_LINE_UP = "\x1b[1A\x1b[2K"
_WIDTH = 100
_MOST_EXCLUDED = 8


def make_listener(root: bool) -> Listener | None:
    """Return what shows the progress of rounds: a live bar, lines now and then, or None off root."""
    wanted = os.environ.get("HPCFSL_PROGRESS", "1" if sys.stderr.isatty() else "lines")
    if not root or wanted == "0":
        return None
    return _bar() if wanted == "1" else _lines()


def _bar() -> Listener:
    console = Console(stderr=True, force_terminal=True, width=_width())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[news]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, auto_refresh=False)
    task = bar.add_task("rounds", total=None, news="")
    shown = [-math.inf]

    def show(now: Round) -> None:
        bar.update(task, total=now.rounds, completed=now.round + 1, news=_news(now))
        if time.monotonic() - shown[0] >= _BAR_SECONDS or now.round + 1 == now.rounds:
            # Open MPI forwards whole lines only. So each refresh is one, over the one before.
            console.file.write("" if shown[0] == -math.inf else _LINE_UP)
            console.print(bar.get_renderable())
            shown[0] = time.monotonic()

    return show


def _lines() -> Listener:
    last = [-math.inf]

    def show(now: Round) -> None:
        if time.monotonic() - last[0] >= _LINE_SECONDS or now.round + 1 == now.rounds:
            last[0] = time.monotonic()
            print(f"round {now.round + 1}/{now.rounds} {_news(now)}", file=sys.stderr, flush=True)

    return show


def _news(now: Round) -> str:
    row = now.row
    tested = "".join(f"{text} " for text in headline(row))
    return f"{tested}loss {row['train_loss']:.3f} excluded {row['num_excluded']}/{row['num_participants']}"


def print_result(run: Run, status: str) -> None:
    """Print the final table of a run that has just ended, or was finished already."""
    if status != "finished":
        print(f"stopped after {run.rounds_done} rounds; the same command continues: {run.path}")
    if run.rounds_done:
        print_summary(run)


def print_summary(run: Run) -> None:
    """Print a run's summary as a table."""
    tree = summary(run)
    title = f"{tree['path']}: {tree['status']}, {tree['rounds_done']} rounds"
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in (
        *_metric_rows(tree),
        *_personal_rows(tree),
        *_detection_rows(run, tree["detection"]),
        *_fault_rows(tree),
        *_cost_rows(tree),
    ):
        table.add_row(name, value)
    Console(width=_width(), color_system=None, force_terminal=False).print(table)


def _metric_rows(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    found, final = tree["metrics"], tree["final"]
    for name, value in found.get("test", {}).items():
        best = f" (best {_percent(tree['best_test_accuracy'])})" if name == "accuracy" else ""
        naive = found.get("naive", {}).get(name)
        beside = "" if naive is None else f"; naive {_value(name, naive)}"
        yield f"test {NAMES.get(name, name)}", f"{_value(name, value)}{best}{beside}"
    if "test" not in found and final["test_accuracy"] is not None:
        # A trace of format 2.0 has no table of metrics.
        yield "test accuracy", f"{_percent(final['test_accuracy'])} (best {_percent(tree['best_test_accuracy'])})"
        yield "test loss", f"{final['test_loss']:.4f}"
    for population, title in (("clients", "client"), ("held-out-clients", "held-out client")):
        for name in ("accuracy", "mae"):
            spread = tree["clients"].get(population, {}).get(name)
            if spread is not None:
                mean, low, high = (_value(name, spread[part]) for part in ("mean", "min", "max"))
                yield f"{title} {NAMES.get(name, name)}", f"mean {mean}, from {low} to {high}"


def _personal_rows(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if tree["averaged_for_tests"] is not None:
        yield "tests use", f"averaged {tree['averaged_for_tests']}, but each client its own where it has one"


def _detection_rows(run: Run, detection: dict[str, Any]) -> Iterator[tuple[str, str]]:
    honest = detection["false_positive_rate"]
    if detection["attackers"]:
        yield "attackers excluded", f"in {_percent(detection['true_positive_rate'])} of their rounds"
    if honest is not None:
        yield "honest excluded", f"in {_percent(honest)} of their rounds"
    worst = _most_excluded(run)
    if worst:
        yield "most excluded", ", ".join(f"{client} ({count} x, {truth})" for client, count, truth in worst)


def _most_excluded(run: Run) -> list[tuple[int, int, str]]:
    """Return client, times excluded and truth of the clients that were excluded most often."""
    clients, status, attacker = (run.column("participation", name) for name in ("client", "status", "attacker"))
    labels = run.labels("participation", "status")
    out = np.isin(status, [labels.index("excluded"), labels.index("non-finite")])
    found, counts = np.unique(clients[out], return_counts=True)
    bad = set(clients[attacker == 1].tolist())
    order = np.lexsort((found, -counts))[:_MOST_EXCLUDED]
    return [(int(found[i]), int(counts[i]), "attacker" if int(found[i]) in bad else "honest") for i in order]


def _fault_rows(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if tree["faults"]:
        yield "faults", ", ".join(f"{name} {count} x" for name, count in tree["faults"].items())


def _cost_rows(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    totals = ("up", "down")
    counts = tree["bytes"]
    kinds = ", ".join(f"{name.replace('_', ' ')} {_size(n)}" for name, n in counts.items() if n and name not in totals)
    yield "bytes", f"up {_size(counts['up'])}, down {_size(counts['down'])} ({kinds})"
    seconds = tree["seconds"]
    phases = ", ".join(f"{name} {value:.1f}" for name, value in seconds["by_phase"].items() if value >= 0.05)
    yield "seconds", f"{seconds['total']:.1f} on {tree['ranks']['count']} ranks ({phases})"
    if tree["virtual_seconds"] is not None:
        yield "virtual time", f"{tree['virtual_seconds']:.4g} s on the simulated clock"
    if "executor" in tree["provenance"]:
        yield "executor", tree["provenance"]["executor"]
    if tree["config"].get("global_aggregation", {}).get("reduction") == "float32":
        yield "sums", "float32, so that bits and digest depend on the ranks"


def _width() -> int:
    """Return the width of the terminal, which the job scripts pass on as COLUMNS."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isdecimal() and int(text) >= 20 else _WIDTH


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "undefined"
    return _percent(value) if name in ("accuracy", "macro-f1", "smashed-error") else f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"
