"""Flower's simulation at work: `python flower_worker.py JSON` in an environment that has `flwr[simulation]` and torch.

Real Flower throughout: `run_simulation` on its Ray backend, its federated averaging strategy, one client worker for
each process asked for. Nothing is evaluated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from common import Clock, build_model, peak_memory_bytes, read_request, tell
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

_NEVER = 1_000_000_000


class EnoughError(Exception):
    """Enough rounds are timed."""


class TimedFedAvg(FedAvg):
    """Federated averaging that marks the end of each round."""

    clock: Clock

    def aggregate_evaluate(self, *arguments: Any, **named: Any) -> Any:
        """Mark the round: this is the last thing that happens in it."""
        if self.clock.round_done():
            raise EnoughError
        return super().aggregate_evaluate(*arguments, **named)


def make_server(request: dict[str, Any], clock: Clock) -> ServerApp:
    """Return the server side."""
    server, cohort, population = ServerApp(), request["cohort"], request["population"]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = TimedFedAvg(
            fraction_train=min(1.0, (cohort + 0.5) / population),
            fraction_evaluate=0.0,
            min_train_nodes=cohort,
            min_available_nodes=population,
        )
        strategy.clock = clock
        arrays = ArrayRecord(build_model(request["workload"]).state_dict())
        try:
            strategy.start(grid, arrays, num_rounds=_NEVER)
        except EnoughError:
            tell(request, clock.marks, peak_memory_of_tree(), ("flwr", "ray"))

    return server


def peak_memory_of_tree() -> list[int]:
    """Return the peak memory of this process and of the Python workers that it started, directly or not."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold blanks; the parent is the second field after it.
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    tree = [os.getpid()]
    for process in tree:
        tree += [child for child, parent in parents.items() if parent == process]
    return [peak_memory_bytes(process) for process in tree if process == os.getpid() or _is_client_worker(process)]


def _is_client_worker(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"ray::ClientAppActor")
    except OSError:
        return False


def main() -> None:
    """Run rounds until enough are timed, and print what was measured."""
    request = read_request()
    os.environ["HPCFSL_BENCH_REQUEST"] = json.dumps(request)
    from flower_client import app

    workers = request["processes"]
    run_simulation(
        server_app=make_server(request, Clock(request, root=True)),
        client_app=app,
        num_supernodes=request["population"],
        backend_config={
            "init_args": {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    main()
