"""What a worker is asked to do: one JSON object on its command line, the same for ours and for every peer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpcfsl.bench.workloads import Workload, find_workload
from hpcfsl.config import Config, load_text, resolve


@dataclass(frozen=True, kw_only=True)
class Request:
    """One measurement.

    Attributes:
        workload: Name of the workload.
        cohort: Clients in a round; 0 for the workload's own number.
        seconds: How long rounds are timed, at least.
        rounds: How many rounds are timed, at least.
        warmup: Rounds before the first that is timed.
        threads: Threads of each process.
        overrides: `section.key=value` settings of ours.
        started: When the driver started the worker, by the monotonic clock of this machine.
    """

    workload: str
    cohort: int = 0
    seconds: float = 4.0
    rounds: int = 3
    warmup: int = 2
    threads: int = 1
    overrides: tuple[str, ...] = ()
    started: float = 0.0

    @property
    def description(self) -> Workload:
        """The workload, with the cohort asked for."""
        workload = find_workload(self.workload)
        return workload if not self.cohort else replace(workload, cohort=self.cohort)

    def to_json(self) -> str:
        """Return the request as a worker of ours takes it."""
        return json.dumps(asdict(self))

    def to_peer_json(self) -> str:
        """Return the request as a peer's worker takes it: with everything about the work written out."""
        workload = self.description
        work = {
            "cohort": workload.cohort,
            "population": workload.population,
            "samples": workload.samples,
            "batch": workload.batch,
            "learning_rate": workload.learning_rate,
        }
        return json.dumps({**asdict(self), **work})


def read_request(text: str) -> Request:
    """Return the request that `Request.to_json` wrote."""
    tree: dict[str, Any] = json.loads(text)
    return Request(**{**tree, "overrides": tuple(tree["overrides"])})


def configuration(request: Request, preset: Any = None) -> Config:
    """Return the configuration of ours that does the work of a request.

    Raises:
        ConfigError: An override cannot be used.
    """
    tree = request.description.tree(preset)
    tree["run"]["threads"] = request.threads
    tree["run"]["share_devices"] = True  # contenders of several ranks are measured on machines with one GPU too
    return load_text(resolve(tree).to_toml(), request.overrides)
