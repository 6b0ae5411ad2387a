"""One job: a site's settings and the command line's, put together and checked before anything is submitted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hpcfsl.cluster.site import Site
from hpcfsl.cluster.words import read_time
from hpcfsl.errors import UserError

Restart = Literal["requeue", "array", "none"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for; None where the site decides.

    Attributes:
        nodes: Nodes of the job.
        ranks_per_node: Ranks on each of them.
        array: Length of the self-serial array that takes the place of requeueing.
        no_requeue: Never put the job back into the queue.
        time, partition, account, qos, mail, gpus_per_node, signal_seconds: In the place of the site's.
    """

    nodes: int = 1
    ranks_per_node: int | None = None
    array: int | None = None
    no_requeue: bool = False
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    mail: str | None = None
    gpus_per_node: int | None = None
    signal_seconds: int | None = None

    def changes(self) -> dict[str, Any]:
        """Return the site's settings that the command line replaces."""
        names = ("time", "partition", "account", "qos", "mail", "gpus_per_node", "signal_seconds")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job asks for and how it starts ranks.

    Attributes:
        site: The cluster, the command line's changes in it.
        nodes: Nodes.
        ranks_per_node: Ranks on each node.
        threads: Threads, and so cores, of a rank.
        restart: How a run that its job leaves unfinished goes on.
        array: Elements of the self-serial array, where that is how.
        seconds: Time limit.
        workdir: The folder that relative paths of the configuration start from.
    """

    site: Site
    nodes: int
    ranks_per_node: int
    threads: int
    restart: Restart
    array: int
    seconds: int
    workdir: Path

    @property
    def ranks(self) -> int:
        """All ranks."""
        return self.nodes * self.ranks_per_node

    @property
    def program(self) -> tuple[str, ...]:
        """The words that call the program on a node."""
        default = ("hpcfsl",) if self.site.container else (sys.executable, "-m", "hpcfsl")
        return self.site.program or default


def make_job(site: Site, request: Request, threads: int) -> Job:
    """Return the job of a request.

    Raises:
        UserError: The request contradicts itself or the site.
    """
    site = _with_changes(site, request)
    ranks = request.ranks_per_node or _ranks_per_node(site, threads)
    seconds = read_time("--time", site.time)
    if site.signal_seconds >= seconds:
        fix = f"must be less than the time limit, {site.time}; lower it or ask for more time"
        raise UserError(f"--signal-seconds {site.signal_seconds}: {fix}")
    if site.cores_per_node and ranks * threads > site.cores_per_node and site.bind == "core":
        fix = f"with run.threads = {threads} needs {ranks * threads} cores, and a node has {site.cores_per_node}"
        raise UserError(f"--ranks-per-node {ranks}: {fix}; use fewer")
    return Job(
        site=site,
        nodes=request.nodes,
        ranks_per_node=ranks,
        threads=threads,
        restart="array" if request.array else "requeue" if site.requeue and not request.no_requeue else "none",
        array=request.array or 0,
        seconds=seconds,
        workdir=Path.cwd(),
    )


def _with_changes(site: Site, request: Request) -> Site:
    changed = site
    for name, value in request.changes().items():
        try:
            changed = changed.replace(**{name: value})
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"--{name.replace('_', '-')} {value}: {reason[0].lower()}{reason[1:]}") from None
    return changed


def _ranks_per_node(site: Site, threads: int) -> int:
    if site.gpus_per_node:
        return site.gpus_per_node
    if site.cores_per_node:
        return max(1, site.cores_per_node // threads)
    raise UserError("--ranks-per-node: must be given; the site file says neither cores_per_node nor gpus_per_node")
