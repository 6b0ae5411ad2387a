"""A run in one small tree: what ran, where, how it ended and what came out. For `hpcfsl inspect` and scripts.

Layer 3. Every file is checked first; the result holds only what JSON can hold (None for NaN and infinities).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.trace.reader import Run
from hpcfsl.trace.schema import PHASES, TABLES

CLIENT_METRICS = ("accuracy", "macro_f1", "mae", "rmse", "r2", "loss")
"""Columns of the table `evaluation` that are metrics."""
_LAST_EVENTS = 10


def summary(run: Run) -> dict[str, Any]:
    """Return a summary of a run that `json.dumps` takes as it is.

    Raises:
        RunFolderError: A file is damaged.
    """
    run.verify()
    tree = {
        "path": str(run.path),
        "status": run.status,
        "rounds_done": run.rounds_done,
        "config": run.config,
        "provenance": run.provenance,
        "ranks": _ranks(run),
        **metrics(run),
        "averaged_for_tests": _averaged_for_tests(run),
        "bytes": _bytes(run),
        "seconds": {"total": float(run.column("rounds", "seconds").sum()), "by_phase": _phases(run)},
        "events": _events(run),
    }
    cleaned: dict[str, Any] = _clean(tree)
    return cleaned


def metrics(run: Run) -> dict[str, Any]:
    """Return final metrics, the best test accuracy and the outcome of detection; checks the files that it reads.

    `metrics` has the last value of each metric of each population, `clients` how the metrics of single clients spread.

    Raises:
        RunFolderError: One of them is damaged.
    """
    rounds = run.table("rounds")
    found: dict[str, Any] = _clean(
        {
            "final": _final(rounds),
            "best_test_accuracy": _best(rounds["test_accuracy"]),
            "metrics": last_metrics(run),
            "clients": _client_metrics(run),
            "detection": _detection(run),
            "faults": _faults(run),
            "virtual_seconds": float(rounds["virtual_time"][-1]) if len(rounds["virtual_time"]) else None,
        }
    )
    return found


def _averaged_for_tests(run: Run) -> str | None:
    """Return what in the tested global model is an average of what stays with clients; None where nothing does."""
    protocol = run.config.get("protocol", {})
    if protocol.get("name") == "splitfed-v3":
        return "client halves"
    layers = protocol.get("personal") or []
    return f"personal layers {', '.join(layers)}" if layers else None


def _ranks(run: Run) -> dict[str, Any]:
    ranks = run.table("ranks")
    starts = np.unique(ranks["first_round"])
    last = ranks["first_round"] == starts[-1] if starts.size else np.zeros(0, bool)
    return {
        "count": int(last.sum()),
        "starts": int(starts.size),
        "hosts": _texts(ranks["host"][last]),
        "devices": _texts(ranks["device"][last]),
        "threads": sorted({int(threads) for threads in ranks["threads"][last]}),
    }


def _final(rounds: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the last value of each metric, for those that are not measured each round the last one measured."""
    names = ["train_loss", *(name for name in rounds if name.startswith(("test_", "client_accuracy_")))]
    measured = {name: rounds[name][~np.isnan(rounds[name])] for name in names}
    final: dict[str, Any] = {name: float(values[-1]) if values.size else None for name, values in measured.items()}
    evaluated = rounds["round"][~np.isnan(rounds["test_accuracy"])]
    return {"evaluated_round": int(evaluated[-1]) if evaluated.size else None, **final}


def last_metrics(run: Run) -> dict[str, dict[str, float]]:
    """Return the last value of each metric of each population, by their names."""
    found: dict[str, dict[str, float]] = {}
    populations, names = (run.labels("metrics", column) for column in ("population", "metric"))
    rows = run.table("metrics")
    for population, name, value in zip(rows["population"], rows["metric"], rows["value"], strict=True):
        found.setdefault(populations[population], {})[names[name]] = float(value)
    return found


def _client_metrics(run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean, least, median and largest of each metric over clients, where they were last evaluated.

    One entry for the clients that train and one for those that never do, where some were evaluated.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for rows in run.segments("evaluation", ("round", "held_out", *CLIENT_METRICS)):
        for code, population in enumerate(("clients", "held-out-clients")):
            of_these = rows["held_out"] == code
            last = of_these & (rows["round"] == rows["round"][of_these].max(initial=-1))
            values = {name: rows[name][last] for name in CLIENT_METRICS}
            known = {name.replace("_", "-"): each[~np.isnan(each)] for name, each in values.items()}
            if last.any():
                found[population] = {name: _spread(each) for name, each in known.items() if each.size}
    return found


def _spread(values: NDArray[Any]) -> dict[str, float]:
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }


def _best(accuracy: NDArray[Any]) -> float | None:
    known = accuracy[~np.isnan(accuracy)]
    return float(known.max()) if known.size else None


def _detection(run: Run) -> dict[str, Any]:
    """Count uploads that arrived by truth and outcome; `excluded` includes non-finite and screened-out ones."""
    excluded, attackers = np.zeros(2, np.int64), np.zeros(2, np.int64)
    flags = run.labels("participation", "status")
    out = [flags.index(name) for name in ("excluded", "non-finite", "screened") if name in flags]
    for part in run.segments("participation", ("status", "attacker")):
        arrived = part["status"] != flags.index("lost")
        attackers += np.bincount(part["attacker"][arrived], minlength=2)
        excluded += np.bincount(part["attacker"][np.isin(part["status"], out)], minlength=2)
    return {
        "attackers": int(attackers[1]),
        "attackers_excluded": int(excluded[1]),
        "honest": int(attackers[0]),
        "honest_excluded": int(excluded[0]),
        "true_positive_rate": float(excluded[1] / attackers[1]) if attackers[1] else None,
        "false_positive_rate": float(excluded[0] / attackers[0]) if attackers[0] else None,
    }


def _faults(run: Run) -> dict[str, int]:
    """Return how often each fault happened, those that did."""
    names = run.labels("participation", "fault")
    counts = np.bincount(run.column("participation", "fault"), minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count and name != "none"}


def _bytes(run: Run) -> dict[str, int]:
    tables = ("rounds", "participation", "group_rounds")
    names = [(table, column.name) for table in tables for column in TABLES[table] if column.units == "byte"]
    return {name.removeprefix("bytes_"): int(run.column(table, name).sum()) for table, name in names}


def _phases(run: Run) -> dict[str, float]:
    """Return seconds by phase, of the slowest rank in each round: the time that the run waited for."""
    timings = run.table("timings")
    slowest: dict[tuple[int, int], float] = {}
    for round, phase, seconds in zip(timings["round"], timings["phase"], timings["seconds"], strict=True):
        key = (int(round), int(phase))
        slowest[key] = max(slowest.get(key, 0.0), float(seconds))
    return {
        name: math.fsum(seconds for (_, phase), seconds in slowest.items() if phase == number)
        for number, name in enumerate(PHASES)
    }


def _events(run: Run) -> list[dict[str, Any]]:
    events = dict(run.flat("events", run.table("events")))
    rows = zip(*(values[-_LAST_EVENTS:].tolist() for values in events.values()), strict=True)
    return [dict(zip(events, row, strict=True)) for row in rows]


def _texts(values: NDArray[Any]) -> list[str]:
    return sorted({value.decode() for value in values.tolist()})


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # A TOML date is the only thing left that JSON does not know.
    return value if value is None or isinstance(value, str | int | float) else str(value)
