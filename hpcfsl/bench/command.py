"""`hpcfsl bench`: which contenders do which workloads, and where the results go."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hpcfsl.bench.contenders import (
    Contender,
    Variant,
    find_peer,
    flower,
    gemm,
    independent_runs,
    ours,
    parse_variant,
    pfl,
)
from hpcfsl.bench.layers import measure_layers
from hpcfsl.bench.method import overhead
from hpcfsl.bench.processes import rank_command, read_energy, run_together
from hpcfsl.bench.request import Request, configuration
from hpcfsl.bench.tables import print_report, to_markdown
from hpcfsl.bench.turns import MOST_SECONDS, take_turns
from hpcfsl.bench.workloads import METHOD_WORKLOADS, SPEED_WORKLOADS, Workload, find_workload
from hpcfsl.errors import UserError, one_line
from hpcfsl.native.library import instruction_set
from hpcfsl.provenance import memory_bytes, provenance
from hpcfsl.trace.folder import folder_errors

FORMAT = 1
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the command line asks for.

    Attributes:
        workloads: Names of workloads.
        peers: Names of peers.
        pfl_python: The Python of pfl's environment.
        flower_python: The Python of Flower's environment.
        ranks: Numbers of ranks of ours.
        variants: Settings of ours that are compared.
        pair: Whether ranks are compared with independent runs.
        method: Whether the whole method is compared with plain averaging.
        layers: Whether the engine's time for each layer is measured.
        repeats: How often every contender runs.
        seconds: How long rounds are timed in each.
        cohort: Clients in a round; 0 for the workload's own.
        overrides: Settings of ours.
    """

    workloads: tuple[str, ...]
    peers: tuple[str, ...] = ()
    pfl_python: str | None = None
    flower_python: str | None = None
    ranks: tuple[int, ...] = (1, 2)
    variants: tuple[Variant, ...] = ()
    pair: bool = False
    method: bool = False
    layers: bool = False
    repeats: int = 5
    seconds: float = 4.0
    cohort: int = 0
    overrides: tuple[str, ...] = ()


def read_choice(*, ranks: str, variants: tuple[str, ...], **others: Any) -> Choice:
    """Return what the options of the command line mean.

    Raises:
        UserError: `ranks` are no numbers, or a variant is not written as one.
    """
    numbers = tuple(int(text) for text in ranks.split(",") if text.strip().isdecimal() and int(text) > 0)
    if len(numbers) != len(ranks.split(",")):
        raise UserError(one_line(f"--ranks {ranks}: write numbers of ranks with commas between them, such as 1,2"))
    return Choice(ranks=numbers, variants=tuple(parse_variant(text) for text in variants), **others)


def bench(choice: Choice, out: Path | None) -> None:
    """Measure, print tables, and write everything as JSON.

    Raises:
        UserError: Something asked for is not there, or a contender failed.
    """
    measure = measure_layers_of if choice.layers else measure_method if choice.method else measure_speed
    report = measure(choice)
    if out is not None:
        with folder_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report)


def measure_speed(choice: Choice) -> Row:
    """Return the report of contenders that take turns."""
    workloads = [find_workload(name) for name in choice.workloads or SPEED_WORKLOADS]
    _check_peers(choice)
    requests = [_request(choice, workload) for workload in workloads]
    plans = [_contenders(choice, workload) for workload in workloads]
    results = [
        take_turns(request, plan, repeats=choice.repeats, say=_say)
        for request, plan in zip(requests, plans, strict=True)
    ]
    return _report("speed", choice, results)


def measure_method(choice: Choice) -> Row:
    """Return the report of the whole method against plain averaging."""
    workloads = [find_workload(name) for name in choice.workloads or METHOD_WORKLOADS]
    requests = [_request(choice, workload) for workload in workloads]
    return _report("method", choice, [_method_result(choice, request) for request in requests])


def measure_layers_of(choice: Choice) -> Row:
    """Return the report of the engine's time for each layer."""
    workloads = [find_workload(name) for name in choice.workloads or SPEED_WORKLOADS]
    results = []
    for request in (_request(choice, workload) for workload in workloads):
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


def _request(choice: Choice, workload: Workload) -> Request:
    """Return the request for a workload, after a look at whether its settings can be used at all."""
    request = Request(workload=workload.name, cohort=choice.cohort, seconds=choice.seconds, overrides=choice.overrides)
    for variant in choice.variants or (Variant(name="", overrides=()),):
        configuration(replace(request, overrides=(*request.overrides, *variant.overrides)))
    return request


def _contenders(choice: Choice, workload: Workload) -> list[Contender]:
    """Return who takes part, the machine's matrix product among them."""
    ranks = (max(choice.ranks),) if choice.pair or workload.rounds else choice.ranks
    found = [ours(number, variant) for number in ranks for variant in choice.variants or (None,)]
    if choice.pair:
        found.append(independent_runs(max(choice.ranks)))
    peers = [peer for peer in choice.peers if peer in workload.peers]
    if "pfl" in peers:
        assert choice.pfl_python is not None
        found += [pfl(choice.pfl_python, processes, threads) for processes, threads in ((1, 1), (1, 2), (2, 1))]
    if "flower" in peers:
        assert choice.flower_python is not None
        found += [flower(choice.flower_python, 2, whole=whole) for whole in (True, False)]
    if not workload.rounds:
        found += [gemm(cores) for cores in sorted({one.processes * one.threads for one in found})]
    return found


def _check_peers(choice: Choice) -> None:
    if "pfl" in choice.peers:
        find_peer("--pfl-python", choice.pfl_python, "pfl")
    if "flower" in choice.peers:
        find_peer("--flower-python", choice.flower_python, "flwr")


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


def _report(kind: Literal["speed", "method", "layers"], choice: Choice, results: list[Row]) -> Row:
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
