"""Which executor is the fastest for a model, as somebody measured it: a TOML table that `auto` looks into.

`hpcfsl calibrate` writes such a table for a machine, and one is shipped with the package. A run only ever reads a
table, so every rank and every restart takes the same executor. An entry ranks what was measured, the fastest first; the
first one that this rank can use is taken, because a table may name the compiled kernels where there are none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import nn

from hpcfsl.errors import ConfigError, one_line
from hpcfsl.models.split import SplitModel
from hpcfsl.training.settings import TrainingSettings

SHIPPED = Path(__file__).with_name("executors.toml")
EXECUTORS = ("native", "stacked", "one-by-one")
_HEAD = "# Executors by speed, the fastest first; `hpcfsl calibrate` writes this file, and training.table names it.\n\n"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to train a group, and how fast it was.

    Attributes:
        executor: Its name.
        chunk_clients: Clients that the stacked executor trains together.
        share_wide: Whether the native executor keeps samples instead of weights of wide layers.
        clients_per_second: Its speed where the table was made; for people, not read.
    """

    executor: str
    chunk_clients: int
    share_wide: bool = True
    clients_per_second: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Key:
    """What a speed depends on.

    Attributes:
        device: "cpu", or the name of the GPU.
        model: The layers and shapes, as `describe_model` writes them.
        batch_size: Samples in a local step.
        precision: Arithmetic of matrix products.
    """

    device: str
    model: str
    batch_size: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What was measured for one key, the fastest first."""

    key: Key
    ranking: tuple[Candidate, ...]


def key_of(model: SplitModel, settings: TrainingSettings, device: torch.device) -> Key:
    """Return the key under which a table has the speeds of a model."""
    known = device.type == "cuda" and torch.cuda.is_available()
    name = torch.cuda.get_device_name(device) if known else device.type
    return Key(device=name, model=describe_model(model), batch_size=settings.batch_size, precision=settings.precision)


def describe_model(model: SplitModel) -> str:
    """Return the layers of all parts in order with the shapes of their parameters; the cut changes nothing."""
    halves = (model.client_half, model.server_half, model.tail)
    layers = [layer for half in halves for layer in half.modules() if not any(True for _ in layer.children())]
    return " ".join(_describe_layer(layer) for layer in layers if not isinstance(layer, nn.Identity))


def find_candidate(path: str, key: Callable[[], Key], usable: Callable[[str], bool]) -> Candidate | None:
    """Return the fastest candidate of a table that can be used here, or None where the table does not know the key.

    Args:
        path: The table; empty for the one that is shipped.
        key: Returns what to look for; not called for an empty table.
        usable: Whether an executor can train this model here.

    Raises:
        ConfigError: The table cannot be read.
    """
    entries = read_table(Path(path)) if path else read_table(SHIPPED)
    wanted = key() if entries else None
    for entry in entries:
        if entry.key == wanted:
            return next((candidate for candidate in entry.ranking if usable(candidate.executor)), None)
    return None


def read_table(path: Path) -> tuple[Entry, ...]:
    """Return the entries of a table.

    Raises:
        ConfigError: It cannot be read, or is no such table.
    """
    fix = "give a file that `hpcfsl calibrate` wrote"
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        return tuple(_read_entry(table) for table in tree.get("entry", []))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("training.table", str(path), one_line(f"cannot be read ({error}); {fix}")) from None
    # TOML that is no such table: tables or lists in the place of values, and the reverse.
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("training.table", str(path), one_line(f"is no table of executors ({error}); {fix}")) from None


def write_table(entries: Iterable[Entry]) -> str:
    """Return a table as TOML; `read_table` takes it back."""
    tables = [{**asdict(entry.key), "ranking": [asdict(candidate) for candidate in entry.ranking]} for entry in entries]
    return _HEAD + tomli_w.dumps({"entry": tables})


def merge_entries(old: Iterable[Entry], new: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return all entries, the new ones in the place of old ones with their key."""
    return tuple({entry.key: entry for entry in (*old, *new)}.values())


def _describe_layer(layer: nn.Module) -> str:
    shapes = [
        "x".join(map(str, parameter.shape)) for parameter in layer.parameters(recurse=False) if parameter.dim() > 1
    ]
    return f"{type(layer).__name__}({','.join(shapes)})" if shapes else type(layer).__name__


def _read_entry(table: dict[str, Any]) -> Entry:
    names = ("device", "model", "batch_size", "precision")
    key = Key(**{name: table[name] for name in names})
    ranking = tuple(Candidate(**candidate) for candidate in table["ranking"])
    for candidate in ranking:
        if candidate.executor not in EXECUTORS or not isinstance(candidate.chunk_clients, int):
            raise ValueError(f"no executor {candidate.executor!r} of chunks of {candidate.chunk_clients!r}")
        if candidate.chunk_clients < 1:
            raise ValueError(f"chunks of {candidate.chunk_clients} clients")
        if not isinstance(candidate.share_wide, bool):
            raise ValueError(f"share_wide = {candidate.share_wide!r}")
    return Entry(key=key, ranking=ranking)
