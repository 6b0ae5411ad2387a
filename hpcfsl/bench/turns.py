"""Letting contenders take turns, and what comes out of it: plain tables that go into a JSON file as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hpcfsl.bench.clock import median_rate, round_seconds
from hpcfsl.bench.contenders import Contender
from hpcfsl.bench.processes import BenchmarkError, Finished, run_together
from hpcfsl.bench.request import Request

Row = dict[str, Any]
Say = Callable[[str], None]
MOST_SECONDS = 1800.0
"""How long one contender may take for one turn."""


def take_turns(request: Request, contenders: Sequence[Contender], *, repeats: int, say: Say) -> Row:
    """Let each contender do a workload once in every repeat; return the workload's results.

    Args:
        request: The work.
        contenders: Who takes part, in this order.
        repeats: How often.
        say: Told of every turn.

    Raises:
        BenchmarkError: A contender failed.
    """
    rows: dict[str, Row] = {contender.name: _empty_row(contender) for contender in contenders}
    workload = request.description
    for repeat in range(repeats):
        for contender in contenders:
            turn = _one_turn(contender, request)
            row = rows[contender.name]
            for name, value in turn["series"].items():
                row["series"].setdefault(name, []).append(value)
            row["details"] = turn["details"]
            rate = row["series"]["rate"][-1]
            say(f"{workload.name} {repeat + 1}/{repeats}: {contender.name}: {rate:,.4g} {row['unit']}")
    return {
        "workload": workload.name,
        "title": workload.title,
        "cohort": workload.cohort,
        **_facts(rows.values()),
        "contenders": list(rows.values()),
    }


def _empty_row(contender: Contender) -> Row:
    return {
        "name": contender.name,
        "side": contender.side,
        "processes": contender.processes,
        "threads": contender.threads,
        "unit": "FLOP/s" if contender.side == "gemm" else "clients/s",
        "series": {},
        "details": {},
    }


def _one_turn(contender: Contender, request: Request) -> Row:
    started = replace(request, started=time.monotonic())
    finished = run_together(
        contender.name, contender.commands(started), seconds=MOST_SECONDS, gate=contender.independent
    )
    first = finished.results[0]
    series = {
        "rate": _rate(contender, finished),
        "round_seconds": round_seconds(first["marks"]),
        "joules_per_unit": _joules(contender, finished),
        "peak_memory_bytes": _memory(finished),
        "ready_seconds": first.get("ready_seconds"),
    }
    known = ("executor", "device", "parameters", "flops_per_client", "phase_seconds", "versions")
    return {"series": series, "details": {name: first[name] for name in known if name in first}}


def _work(result: Row) -> float:
    """Return what one round of a worker does: clients, or operations of a matrix product."""
    return float(result["flops"] if "flops" in result else result["cohort"])


def _rate(contender: Contender, finished: Finished) -> float:
    """Return the work a second; of independent processes only the rounds count during which all of them worked."""
    parts = finished.results if contender.independent else finished.results[:1]
    window = max(part["marks"][0] for part in parts), min(part["marks"][-1] for part in parts)
    rates = [median_rate(_work(part), part["marks"], window) for part in parts]
    if not all(rates):
        raise BenchmarkError(f"{contender.name}: the processes did not work at the same time; raise --seconds")
    return sum(rates)


def _joules(contender: Contender, finished: Finished) -> float | None:
    """Return the energy for one client; not known for independent processes, which do not end together."""
    if finished.joules is None or contender.independent:
        return None
    marks = finished.results[0]["marks"]
    return finished.joules / (_work(finished.results[0]) * (len(marks) - 1))


def _memory(finished: Finished) -> list[int]:
    return [size for part in finished.results for size in part.get("peak_memory_bytes", [])]


def _facts(rows: Any) -> Row:
    """Return what ours found out about the work."""
    for row in rows:
        if "flops_per_client" in row["details"]:
            return {name: row["details"][name] for name in ("parameters", "flops_per_client")}
    return {}
