"""`hpcfsl bench --overheads`: what equal bits on any number of ranks cost, and what being able to continue costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpcfsl.bench.choice import Choice, make_request
from hpcfsl.bench.processes import Command, rank_command, run_together
from hpcfsl.bench.request import Request
from hpcfsl.bench.shares import share
from hpcfsl.bench.turns import MOST_SECONDS
from hpcfsl.bench.workloads import OVERHEAD_WORKLOADS, find_workload

Row = dict[str, Any]
Say = Callable[[str], None]


def measure_overheads(choice: Choice, say: Say) -> list[Row]:
    """Return the results: one of the sums over ranks, where there are sizes, then one a workload.

    Raises:
        UserError: Something asked for is not there, or a measurement failed.
    """
    requests = [make_request(choice, find_workload(name)) for name in choice.workloads or OVERHEAD_WORKLOADS]
    sums = [_measure_sums(choice, say)] if choice.sizes else []
    return [*sums, *(_measure_share(choice, request, say) for request in requests)]


def _measure_sums(choice: Choice, say: Say) -> Row:
    asked = json.dumps({"sizes": choice.sizes, "repeats": choice.repeats})
    command = _ranks(choice, "hpcfsl.bench.reductions", asked)
    result = run_together("sums over ranks", (command,), seconds=MOST_SECONDS).results[0]
    say(f"sums over {result['ranks']} ranks: {len(result['sizes'])} sizes done")
    return {"part": "sums", **result}


def _measure_share(choice: Choice, request: Request, say: Say) -> Row:
    command = _ranks(choice, "hpcfsl.bench.shares", request.to_json())
    turns = []
    for repeat in range(choice.repeats):
        turns.append(run_together(request.workload, (command,), seconds=MOST_SECONDS).results[0])
        say(f"{request.workload} {repeat + 1}/{choice.repeats}: share of the trace {100 * share(turns[-1]):.1f} %")
    last = turns[-1]
    return {
        "part": "share",
        "workload": request.workload,
        "title": request.description.title,
        "ranks": max(choice.ranks),
        "share": [share(turn) for turn in turns],
        **{name: [turn[name] for turn in turns] for name in ("round_seconds", "record_seconds", "commit_seconds")},
        **{name: last[name] for name in ("cohort", "executor", "device", "parameters", "versions")},
        "peak_memory_bytes": last["peak_memory_bytes"],
    }


def _ranks(choice: Choice, module: str, argument: str) -> Command:
    command = rank_command(max(choice.ranks), ("-m", module, argument))
    return replace(command, environment={**command.environment, "OMP_NUM_THREADS": "1"})
