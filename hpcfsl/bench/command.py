"""`hpcfsl bench`: which contenders do which workloads, and where the results go."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hpcfsl.bench.choice import Choice, check_peers, make_request, plan_contenders
from hpcfsl.bench.layers import measure_layers
from hpcfsl.bench.method import overhead
from hpcfsl.bench.overheads import measure_overheads
from hpcfsl.bench.processes import rank_command, read_energy, run_together
from hpcfsl.bench.request import Request
from hpcfsl.bench.tables import print_report, to_markdown
from hpcfsl.bench.turns import MOST_SECONDS, take_turns
from hpcfsl.bench.workloads import METHOD_WORKLOADS, SPEED_WORKLOADS, find_workload
from hpcfsl.errors import UserError, one_line
from hpcfsl.native.library import instruction_set
from hpcfsl.provenance import memory_bytes, provenance
from hpcfsl.trace.folder import folder_errors

FORMAT = 1
Row = dict[str, Any]


def bench(choice: Choice, out: Path | None) -> None:
    """Measure, print tables, and write everything as JSON.

    Raises:
        UserError: Something asked for is not there, or a contender failed.
    """
    report = _chosen(choice)(choice)
    if out is not None:
        with folder_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)


def _chosen(choice: Choice) -> Callable[[Choice], Row]:
    wanted = {
        "--layers": (choice.layers, measure_layers_of),
        "--method": (choice.method, measure_method),
        "--overheads": (choice.overheads, measure_overheads_of),
    }
    found = {name: measure for name, (asked, measure) in wanted.items() if asked}
    if len(found) > 1:
        raise UserError(f"{' and '.join(found)}: choose one of them")
    return next(iter(found.values()), measure_speed)


def measure_overheads_of(choice: Choice) -> Row:
    """Return the report of what the exact sum and the trace cost."""
    return _report("overheads", choice, measure_overheads(choice, _say))


def measure_speed(choice: Choice) -> Row:
    """Return the report of contenders that take turns."""
    workloads = [find_workload(name) for name in choice.workloads or SPEED_WORKLOADS]
    check_peers(choice)
    requests = [make_request(choice, workload) for workload in workloads]
    plans = [plan_contenders(choice, workload) for workload in workloads]
    results = [
        take_turns(request, plan, repeats=choice.repeats, say=_say)
        for request, plan in zip(requests, plans, strict=True)
    ]
    return _report("speed", choice, results)


def measure_method(choice: Choice) -> Row:
    """Return the report of the whole method against plain averaging."""
    workloads = [find_workload(name) for name in choice.workloads or METHOD_WORKLOADS]
    requests = [make_request(choice, workload) for workload in workloads]
    return _report("method", choice, [_method_result(choice, request) for request in requests])


def measure_layers_of(choice: Choice) -> Row:
    """Return the report of the engine's time for each layer."""
    workloads = [find_workload(name) for name in choice.workloads or SPEED_WORKLOADS]
    results = []
    for request in (make_request(choice, workload) for workload in workloads):
        head = {"workload": request.workload, "title": request.description.title}
        results.append({**head, "versions": {}, **measure_layers(request)})
    return _report("layers", choice, results)


def print_markdown(files: Sequence[Path]) -> None:
    """Print the tables of reports as Markdown.

    Raises:
        UserError: A file is no report.
    """
    print(to_markdown([read_report(path) for path in files]), end="")


def read_report(path: Path) -> Row:
    """Return a report that `bench` wrote.

    Raises:
        UserError: The file cannot be read, or is no report of this format.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(one_line(f"cannot read the results {path}: {error}")) from None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise UserError(f"{path}: no results of `hpcfsl bench` in format {FORMAT}; measure again")
    return report


def _method_result(choice: Choice, request: Request) -> Row:
    ranks = max(choice.ranks)
    command = rank_command(ranks, ("-m", "hpcfsl.bench.method", request.to_json()))
    command = replace(command, environment={**command.environment, "OMP_NUM_THREADS": "1"})
    turns = []
    for repeat in range(choice.repeats):
        name = f"{request.workload}, method"
        turns.append(run_together(name, (command,), seconds=MOST_SECONDS).results[0])
        _say(f"{request.workload} {repeat + 1}/{choice.repeats}: method over averaging {overhead(turns[-1]):.3f}")
    last = turns[-1]
    return {
        "workload": request.workload,
        "title": request.description.title,
        "cohort": last["cohort"],
        "ranks": ranks,
        "ratio": [overhead(turn) for turn in turns],
        "averaging_seconds": [second for turn in turns for second in turn["averaging_seconds"]],
        "method_seconds": [second for turn in turns for second in turn["method_seconds"]],
        "commit_seconds": [turn["commit_seconds"] for turn in turns],
        **{name: last[name] for name in ("executor", "device", "parameters", "flops_per_client", "versions")},
        "peak_memory_bytes": last["peak_memory_bytes"],
    }


def _report(kind: Literal["speed", "method", "layers", "overheads"], choice: Choice, results: list[Row]) -> Row:
    return {
        "format": FORMAT,
        "kind": kind,
        "machine": {
            **provenance(),
            "memory_bytes": memory_bytes(),
            "load_average": os.getloadavg()[0],
            "instruction_set": instruction_set(),
        },
        "energy_readable": read_energy() is not None,
        "settings": {
            "repeats": choice.repeats,
            "seconds": choice.seconds,
            "cohort": choice.cohort or None,
            "overrides": list(choice.overrides),
            "variants": {variant.name: list(variant.overrides) for variant in choice.variants},
        },
        "results": results,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
