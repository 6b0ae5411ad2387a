"""What the command line of `hpcfsl bench` asks for, and who takes part then."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

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
from hpcfsl.bench.request import Request, configuration
from hpcfsl.bench.workloads import Workload
from hpcfsl.errors import UserError, one_line
from hpcfsl.parallel.device import device_of_rank

_MOST_PARAMETERS = 1e9


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the command line asks for.

    Attributes:
        workloads: Names of workloads.
        peers: Names of peers.
        pfl_python: The Python of pfl's environment.
        flower_python: The Python of Flower's environment.
        pfl_plans: Processes and threads of pfl.
        ranks: Numbers of ranks of ours.
        variants: Settings of ours that are compared.
        pair: Whether ranks are compared with independent runs.
        method: Whether the whole method is compared with plain averaging.
        layers: Whether the engine's time for each layer is measured.
        overheads: Whether the exact sum and the trace are measured.
        sizes: Parameters of the vectors whose sums over ranks are measured.
        repeats: How often every contender runs.
        seconds: How long rounds are timed in each.
        cohort: Clients in a round; 0 for the workload's own.
        overrides: Settings of ours.
    """

    workloads: tuple[str, ...]
    peers: tuple[str, ...] = ()
    pfl_python: str | None = None
    flower_python: str | None = None
    pfl_plans: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 1))
    ranks: tuple[int, ...] = (1, 2)
    variants: tuple[Variant, ...] = ()
    pair: bool = False
    method: bool = False
    layers: bool = False
    overheads: bool = False
    sizes: tuple[int, ...] = ()
    repeats: int = 5
    seconds: float = 4.0
    cohort: int = 0
    overrides: tuple[str, ...] = ()


def read_choice(*, ranks: str, pfl_plans: str, variants: tuple[str, ...], sizes: str, **others: Any) -> Choice:
    """Return what the options of the command line mean.

    Raises:
        UserError: `ranks`, `sizes` or `pfl_plans` are no numbers, or a variant is not written as one.
    """
    plans = re.findall(r"(?:^|,)([1-9]\d{0,2})x([1-9]\d{0,2})(?=,|$)", pfl_plans)
    if len(plans) != len(pfl_plans.split(",")):
        raise UserError(one_line(f"--pfl-plans {pfl_plans}: write processes x threads with commas between, as 1x2,2x1"))
    numbers = tuple(int(text) for text in ranks.split(",") if text.strip().isdecimal() and int(text) > 0)
    if len(numbers) != len(ranks.split(",")):
        raise UserError(one_line(f"--ranks {ranks}: write numbers of ranks with commas between them, such as 1,2"))
    return Choice(
        ranks=numbers,
        pfl_plans=tuple((int(processes), int(threads)) for processes, threads in plans),
        variants=tuple(parse_variant(text) for text in variants),
        sizes=_read_sizes(sizes),
        **others,
    )


def _read_sizes(text: str) -> tuple[int, ...]:
    """Return numbers of parameters, written as 10000 or 1e4, with commas between; none for an empty text."""
    words = [word.strip() for word in text.split(",")] if text else []
    if any(re.fullmatch(r"[1-9]\d{0,9}(e\d)?", word) is None or float(word) > _MOST_PARAMETERS for word in words):
        raise UserError(one_line(f"--sizes {text}: write numbers of parameters up to 1e9 with commas, such as 1e4,1e6"))
    return tuple(int(float(word)) for word in words)


def make_request(choice: Choice, workload: Workload) -> Request:
    """Return the request for a workload, after a look at whether its settings can be used at all."""
    request = Request(workload=workload.name, cohort=choice.cohort, seconds=choice.seconds, overrides=choice.overrides)
    for variant in choice.variants or (Variant(name="", overrides=()),):
        configuration(replace(request, overrides=(*request.overrides, *variant.overrides)))
    return request


def plan_contenders(choice: Choice, workload: Workload) -> list[Contender]:
    """Return who takes part, the machine's matrix product among them."""
    ranks = (max(choice.ranks),) if choice.pair or workload.rounds else choice.ranks
    found = [ours(number, variant) for number in ranks for variant in choice.variants or (None,)]
    if choice.pair:
        found.append(independent_runs(max(choice.ranks)))
    peers = [peer for peer in choice.peers if peer in workload.peers]
    if "pfl" in peers:
        assert choice.pfl_python is not None
        found += [pfl(choice.pfl_python, processes, threads) for processes, threads in choice.pfl_plans]
    if "flower" in peers:
        assert choice.flower_python is not None
        found += [flower(choice.flower_python, 2, whole=whole) for whole in (True, False)]
    if not workload.rounds:
        # The processes of one machine have cores of their own, but share its GPU.
        cores = {1} if _on_gpu(choice, workload) else {one.processes * one.threads for one in found}
        found += [gemm(number) for number in sorted(cores)]
    return found


def check_peers(choice: Choice) -> None:
    """Look whether the environments of the peers are there.

    Raises:
        UserError: One is not.
    """
    if "pfl" in choice.peers:
        find_peer("--pfl-python", choice.pfl_python, "pfl")
    if "flower" in choice.peers:
        find_peer("--flower-python", choice.flower_python, "flwr")


def _on_gpu(choice: Choice, workload: Workload) -> bool:
    return device_of_rank(configuration(make_request(choice, workload)).run.device, 0).type == "cuda"
