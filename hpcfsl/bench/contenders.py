"""Who takes part: each contender is one way to do a workload, as the processes that do it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hpcfsl.bench.processes import Command, rank_command
from hpcfsl.bench.request import Request
from hpcfsl.errors import UserError, one_line

Side = Literal["ours", "pair", "pfl", "flower", "gemm"]
PEER_SCRIPTS = Path(__file__).parent / "peers"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to do a workload.

    Attributes:
        name: What tables call it.
        side: Whose it is; of each side the best counts.
        processes: How many processes work.
        threads: Threads of each.
        commands: The processes to start side by side for a request; the first one's result is the contender's.
        independent: Whether the processes work apart from each other, so that their rates add up.
    """

    name: str
    side: Side
    processes: int
    threads: int
    commands: Callable[[Request], tuple[Command, ...]]
    independent: bool = False


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings of ours that are compared with others of ours, `--variant NAME:section.key=value,...`."""

    name: str
    overrides: tuple[str, ...]


def parse_variant(text: str) -> Variant:
    """Return the variant that a command-line option describes.

    Raises:
        UserError: It is not written as `NAME:section.key=value,...`.
    """
    name, colon, settings = text.partition(":")
    overrides = tuple(setting.strip() for setting in settings.split(",") if setting.strip())
    if not (name and colon and overrides):
        raise UserError(one_line(f"--variant {text}: write it as NAME:section.key=value,section.key=value"))
    return Variant(name=name, overrides=overrides)


def ours(ranks: int, variant: Variant | None = None) -> Contender:
    """Return this program on so many ranks, one thread each."""
    more = variant.overrides if variant else ()

    def commands(request: Request) -> tuple[Command, ...]:
        changed = replace(request, overrides=(*request.overrides, *more))
        return (_one_thread(rank_command(ranks, _module("worker", changed))),)

    name = f"hpcfsl, {ranks} rank{'s' * (ranks > 1)}" + (f", {variant.name}" if variant else "")
    return Contender(name=name, side="ours", processes=ranks, threads=1, commands=commands)


def independent_runs(number: int) -> Contender:
    """Return this program as so many runs of one rank each, started together: what ranks would do without MPI."""

    def commands(request: Request) -> tuple[Command, ...]:
        return (_one_thread(rank_command(1, _module("worker", request))),) * number

    name = f"{number} runs of 1 rank together"
    return Contender(name=name, side="pair", processes=number, threads=1, commands=commands, independent=True)


def gemm(processes: int) -> Contender:
    """Return the machine's matrix product, one thread a process."""

    def commands(request: Request) -> tuple[Command, ...]:
        shorter = replace(request, seconds=min(request.seconds, 1.5))
        return (_one_thread(Command(argv=(sys.executable, *_module("gemm", shorter)))),) * processes

    name = f"matrix product, {processes} process{'es' * (processes > 1)}"
    return Contender(name=name, side="gemm", processes=processes, threads=1, commands=commands, independent=True)


def pfl(python: str, processes: int, threads: int) -> Contender:
    """Return pfl as so many processes, in pfl's own distributed mode where there are several."""

    def commands(request: Request) -> tuple[Command, ...]:
        argv = (python, str(PEER_SCRIPTS / "pfl_worker.py"), replace(request, threads=threads).to_peer_json())
        addresses = ",".join(f"localhost:{port}" for port in _free_ports(processes))
        several = {"PFL_WORKER_ADDRESSES": addresses} if processes > 1 else {}
        return tuple(
            Command(
                argv=argv,
                environment={
                    "OMP_NUM_THREADS": str(threads),
                    **several,
                    **({"PFL_WORKER_RANK": str(rank)} if several else {}),
                },
            )
            for rank in range(processes)
        )

    name = f"pfl, {processes} x {threads}"
    return Contender(name=name, side="pfl", processes=processes, threads=threads, commands=commands)


def flower(python: str, workers: int, *, whole: bool) -> Contender:
    """Return Flower's simulation with so many client workers.

    Args:
        python: The interpreter of its environment.
        workers: Client workers.
        whole: Whether the population is the workload's; else it is the cohort, which Flower does faster.
    """

    def commands(request: Request) -> tuple[Command, ...]:
        tree = {**json.loads(request.to_peer_json()), "processes": workers}
        tree["population"] = tree["population"] if whole else tree["cohort"]
        argv = (python, str(PEER_SCRIPTS / "flower_worker.py"), json.dumps(tree))
        return (Command(argv=argv, environment={"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PEER_SCRIPTS)}),)

    name = f"Flower, {workers} workers, population {'1,000' if whole else '= cohort'}"
    return Contender(name=name, side="flower", processes=workers, threads=1, commands=commands)


def find_peer(option: str, python: str | None, package: str) -> str:
    """Return the interpreter of a peer's environment, checked.

    Args:
        option: The command-line option that names it.
        python: What the option says.
        package: What must be importable there.

    Raises:
        UserError: It is missing, or the package is not there.
    """
    fix = "`bash jobs/bench_peers.sh` makes the environments of the peers"
    if python is None:
        raise UserError(f"{option}: must name the Python of an environment that has {package}; {fix}")
    if shutil.which(python) is None:
        raise UserError(f"{option} {python}: there is no such program; {fix}")
    done = subprocess.run([python, "-c", f"import torch, {package}"], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no error text"])[-1]
        raise UserError(one_line(f"{option} {python}: cannot import {package} ({last}); {fix}"))
    return python


def _module(name: str, request: Request) -> tuple[str, ...]:
    return ("-m", f"hpcfsl.bench.{name}", request.to_json())


def _one_thread(command: Command) -> Command:
    return replace(command, environment={**command.environment, "OMP_NUM_THREADS": "1"})


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on just now."""
    held = [socket.socket() for _ in range(number)]
    try:
        for sock in held:
            sock.bind(("localhost", 0))
        return [sock.getsockname()[1] for sock in held]
    finally:
        for sock in held:
            sock.close()
