"""What `hpcfsl estimate` prints: one screen.

Layer 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from hpcfsl.scaling.estimate import Estimate

_WIDTH = 100
_LEAST_SHARE = 0.02  # parts below this share of their sum are left out of a line


def print_estimate(found: Estimate, name: str) -> None:
    """Print an estimate as a table, warnings below it."""
    cluster = found.cluster
    nodes = f"{cluster.nodes} node{'s' if cluster.nodes > 1 else ''}"
    title = f"{name}: {found.rounds} rounds on {cluster.ranks} rank{'s' if cluster.ranks > 1 else ''}, {nodes}"
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in _rows(found):
        table.add_row(*row)
    console = Console(width=_WIDTH, color_system=None, force_terminal=False)
    console.print(table)
    for warning in found.warnings:
        console.print(f"warning: {warning}")


def _rows(found: Estimate) -> Iterator[tuple[str, str, str]]:
    what = f"{found.parameters:,} parameters, {found.clients:,} clients in {found.groups} groups, {found.executor}"
    yield "work", "", what
    yield "time", duration(found.seconds), f"{duration(found.round.seconds)} a round"
    yield "", "", parts(found.round.terms, duration)
    yield "memory of a rank", size(sum(found.memory.values())), parts(found.memory, size)
    yield "run folder", size(found.sizes.total), _files(found)
    yield "sent by a rank", size(sum(found.network_bytes.values())), f"a round: {parts(found.network_bytes, size)}"
    up, down = (size(found.simulated_bytes[way]) for way in ("up", "down"))
    yield "simulated traffic", f"{up} up", f"a round, and {down} down, between clients, groups and root"
    yield "", "", parts({kind.replace("_", " "): count for kind, count in found.traffic.items()}, size)
    if len(found.cuts) > 1:
        yield "cuts", "", ", ".join(f"{count:,} clients at {cut}" for cut, count in found.cuts.items())


def _files(found: Estimate) -> str:
    sizes = found.sizes
    text = f"trace {size(sizes.trace)}, updates {size(sizes.updates)}, checkpoints {size(sizes.checkpoints)}"
    return f"{text}; scratch {size(found.scratch_bytes)} on a node" if found.scratch_bytes else text


def parts(values: Mapping[str, float], form: Callable[[float], str]) -> str:
    """Return what counts in a sum, largest first; `form` writes a number."""
    total = sum(values.values())
    kept = sorted((name for name in values if values[name] > _LEAST_SHARE * total), key=lambda name: -values[name])
    return ", ".join(f"{name} {form(values[name])}" for name in kept) or "nothing"


def duration(seconds: float) -> str:
    """Return seconds in a unit that reads well."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= 2 * length or (unit == "s" and seconds >= 1):
            return f"{seconds / length:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms"


def size(count: float) -> str:
    """Return bytes in a unit that reads well."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
