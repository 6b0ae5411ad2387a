"""What `progress.jsonl` says of a run that is going on: its last rounds and, where it failed, why.

Layer 3. The file is appended to while it is read, so a last line may be torn; and after a cut-off it also holds rounds
that were run again. Only its end is read, however long the run is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcfsl.trace.folder import RunFolder, folder_errors

_TAIL_BYTES = 65_536

NAMES = {"macro-f1": "macro-F1", "mae": "MAE", "rmse": "RMSE", "r2": "R2"}
"""Metrics as people write them, where that is not their name in the trace."""


@dataclass(frozen=True, kw_only=True)
class Recent:
    """The end of a run's progress.

    Attributes:
        rounds: Rows of the last rounds, the newest last; column name to value, None where it is not a number.
        failure: The failure that came after them, as it was recorded; None where there is none.
    """

    rounds: tuple[dict[str, Any], ...]
    failure: dict[str, Any] | None


def read_progress(folder: RunFolder) -> Recent:
    """Return the end of a run's progress; empty where there is none yet."""
    rounds: dict[int, dict[str, Any]] = {}
    failure = None
    for entry in _entries(folder):
        if "failure" in entry:
            failure = entry
        elif isinstance(entry.get("round"), int):
            failure = None
            # A round that is run again takes back all that came after it.
            rounds = {number: row for number, row in rounds.items() if number < entry["round"]}
            rounds[entry["round"]] = entry
    return Recent(rounds=tuple(rounds.values()), failure=failure)


def headline(row: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a round that tell most about its kind of task, in words; none where it was not tested.

    Args:
        row: Columns of the table `rounds`, and metrics of the global test set as `test_<metric>`.
    """
    known = {name: row.get(f"test_{name}") for name in ("accuracy", "perplexity", "mae", "rmse")}
    texts = {
        "accuracy": "accuracy {:.1%}",
        "perplexity": "perplexity {:.4g}",
        "mae": "MAE {:.4g}",
        "rmse": "RMSE {:.4g}",
    }
    return [texts[name].format(value).replace("%", " %") for name, value in known.items() if _is_number(value)]


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isnan(value)


def _entries(folder: RunFolder) -> list[dict[str, Any]]:
    with folder_errors(folder.progress):
        if not folder.progress.exists():
            return []
        with folder.progress.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - _TAIL_BYTES))
            lines = stream.read().split(b"\n")
    found = []
    for line in lines[:-1]:  # what follows the last line's end is not whole yet
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line may have been cut by us, another by a crash
        if isinstance(entry, dict):
            found.append(entry)
    return found
