"""`hpcfsl estimate`: what a run will take, before it is run.

Layer 4. Time is the cost model's with rates that are measured on the spot; memory and files are counted; both are
held against what this machine has.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcfsl.bench.processes import num_cores
from hpcfsl.config import Config
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.round import plan_round
from hpcfsl.scaling.amounts import geometry_amounts, reduce_amounts
from hpcfsl.scaling.calibrate import assumed_rates, measured_rates, shipped_rates
from hpcfsl.scaling.cluster import Cluster, one_node
from hpcfsl.scaling.curves import with_network
from hpcfsl.scaling.memory import available_bytes, predict_memory, shared_bytes, spilled_bytes
from hpcfsl.scaling.model import Prediction, Rates, predict
from hpcfsl.scaling.network import Amounts
from hpcfsl.scaling.sizes import Sizes, predict_sizes
from hpcfsl.scaling.vectors import client_vectors
from hpcfsl.scaling.workload import Workload, of_world
from hpcfsl.world import World, build_world

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        ranks: Ranks of the run.
        ranks_per_node: Ranks of a node of a cluster, each with a core of its own; None for ranks that all share this
            machine's cores.
        measure: Whether to train a few clients first.
        gflops: Speed of a core where nothing is measured, 1e9 operations a second.
        out: A folder on the disk that the run will write to.
    """

    ranks: int = 1
    ranks_per_node: int | None = None
    measure: bool = True
    gflops: float = 10.0
    out: Path = Path()


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take.

    Attributes:
        executor: What will train the clients.
        parameters: Of the model.
        clients: Clients of the first round.
        groups: Its groups.
        rounds: Rounds in all.
        cluster: Where it will run.
        round: Seconds of a round, by stage and by cause.
        memory: Bytes of the rank that needs most, by purpose.
        sizes: Bytes of the run folder.
        scratch_bytes: Bytes of a node's scratch files: uploads that wait and do not fit into `run.hold_mib`, clients'
            vectors that do not fit into `run.client_state_mib`.
        network_bytes: Bytes a round that a rank sends to others, by purpose.
        simulated_bytes: Bytes a round that clients and groups would send and receive, by direction.
        traffic: The same by kind, as the trace's columns `bytes_*` name them.
        cuts: Clients of the first round by the layer after which their model is cut; "none" for no cut.
        warnings: What will not work or not pay, one sentence each.
    """

    executor: str
    parameters: int
    clients: int
    groups: int
    rounds: int
    cluster: Cluster
    round: Prediction
    memory: Mapping[str, float]
    sizes: Sizes
    scratch_bytes: float
    network_bytes: Mapping[str, float]
    simulated_bytes: Mapping[str, float]
    traffic: Mapping[str, float]
    cuts: Mapping[str, int]
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds of all rounds."""
        return self.rounds * self.round.seconds

    def tree(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain = asdict(self)
        plain["cluster"].pop("saturating_ranks")
        return {
            **plain,
            "seconds": self.seconds,
            "round_seconds": self.round.seconds,
            "memory_bytes": sum(self.memory.values()),
            "folder_bytes": self.sizes.total,
        }


def estimate(config: Config, request: Request) -> Estimate:
    """Return what a run of a configuration will take; builds its data and model, and trains a few clients.

    Raises:
        UserError: The configuration cannot be run.
    """
    world = build_world(config, SerialCommunicator())
    work, cluster = of_world(world), _cluster(request)
    # Before anything is trained, so that the process is what a rank is before its first round.
    sizes = predict_sizes(world, request.ranks)
    memory = predict_memory(world, work, request.ranks, sizes)
    rates = _rates(world, work, request)
    round = predict(work, cluster, rates)
    vectors = client_vectors(world, work, request.ranks)
    scratch = (spilled_bytes(world, work, request.ranks) + vectors.scratch_bytes) * cluster.on_node
    needed = sum(memory.values()) * cluster.on_node - shared_bytes(world) * (cluster.on_node - 1)
    space = _space_warnings(request, cluster, memory, needed, sizes.total + scratch)
    warnings = (*space, *_time_warnings(world, work, cluster, round, sizes))
    traffic = _traffic(world)
    return Estimate(
        executor=world.executor.name,
        parameters=work.params,
        clients=int(work.clients.sum()),
        groups=work.groups,
        rounds=config.run.rounds,
        network_bytes=_network_bytes(work, cluster) | {"clients' vectors": vectors.sent_bytes},
        simulated_bytes=_simulated_bytes(traffic),
        traffic=traffic,
        cuts=_cuts(world),
        cluster=cluster,
        round=round,
        memory=memory,
        sizes=sizes,
        scratch_bytes=scratch,
        warnings=warnings,
    )


def _cluster(request: Request) -> Cluster:
    if request.ranks_per_node is None:
        return one_node(request.ranks, num_cores())
    each = request.ranks_per_node
    return Cluster(ranks=request.ranks, ranks_per_node=each, cores_per_node=each)


def _rates(world: World, work: Workload, request: Request) -> Rates:
    shipped = with_network(shipped_rates())
    if request.measure:
        return measured_rates(world, work, shipped)
    return assumed_rates(work, shipped, request.gflops * 1e9)


def _network_bytes(work: Workload, cluster: Cluster) -> dict[str, float]:
    """Return the bytes that one rank sends to other ranks in a round, by purpose."""
    alone = Cluster(ranks=cluster.ranks, ranks_per_node=cluster.ranks, cores_per_node=cluster.ranks)

    def sent(amounts: Amounts) -> float:
        return float(amounts.get("inside.beta", 0.0))

    return {"exact sum": sent(reduce_amounts(work, alone)), "rule across groups": sent(geometry_amounts(work, alone))}


def _traffic(world: World) -> dict[str, float]:
    """Return the bytes of the first round by kind, each client cut where its device is, as its trace would have them.

    Everybody is taken to stay to the end: faults and deadlines only make it less.
    """
    clients = _participants(world)
    wire = world.wire_bytes(world.population.train_counts(clients), clients)
    groups = sum(len(members) > 0 for members in plan_round(world, 0).groups)
    across = float(groups * world.across_bytes())
    kinds = {field.name: float(getattr(wire, field.name).sum()) for field in fields(wire)}
    return {**kinds, "across_up": across, "across_down": across}


def _simulated_bytes(traffic: Mapping[str, float]) -> dict[str, float]:
    return {way: sum(count for kind, count in traffic.items() if kind.endswith(f"_{way}")) for way in ("up", "down")}


def _cuts(world: World) -> dict[str, int]:
    """Return how many clients of the first round are cut after each layer."""
    names, counts = np.unique(world.cuts.names(_participants(world)), return_counts=True)
    return {name.decode(): int(count) for name, count in zip(names.tolist(), counts, strict=True)}


def _participants(world: World) -> NDArray[np.int64]:
    return np.sort(np.concatenate(plan_round(world, 0).groups))


def _space_warnings(
    request: Request, cluster: Cluster, memory: Mapping[str, float], needed: float, written: float
) -> Iterator[str]:
    """Warn of a node that has less than `needed` bytes of memory, and of a disk with less than `written`."""
    free, left = shutil.disk_usage(request.out).free, available_bytes()
    if written > free:
        yield f"the run folder and scratch files need {_size(written)}; {request.out.resolve()} has {_size(free)} free"
    if needed > left:
        fix = "start fewer ranks on a node"
        if memory.get("uploads", 0.0) > needed / cluster.on_node / 3:
            fix = "lower run.hold_mib, make smaller groups, or start fewer ranks on a node"
        elif memory.get("clients' vectors", 0.0) > needed / cluster.on_node / 3:
            fix = "lower run.client_state_mib, or start fewer ranks on a node"
        yield f"{cluster.on_node} ranks need {_size(needed)} and this machine has {_size(left)} left; {fix}"


def _time_warnings(world: World, work: Workload, cluster: Cluster, round: Prediction, sizes: Sizes) -> Iterator[str]:
    if cluster.ranks > work.groups:
        idle = cluster.ranks - work.groups
        yield f"{idle} of {cluster.ranks} ranks get no group; make more groups or start fewer ranks"
    if cluster.sharing > 1:
        yield f"{cluster.on_node} ranks share {cluster.cores_per_node} cores"
    deadline, longest = world.config.run.deadline_seconds, round.stages["train"] * cluster.ranks / work.groups
    if longest > deadline / 2:
        yield f"a group takes about {longest:.0f} s to train; raise run.deadline_seconds, which is {deadline:g}"
    if round.stages["pool"] > 0.3 * round.seconds:
        yield "waiting uploads go through a scratch file; raise run.hold_mib, or set threshold.scope to 'group'"
    if round.terms["input and output"] > 0.3 * round.seconds and sizes.updates > 0:
        yield "writing takes a third of the time; record fewer updates: trace.updates, trace.every"


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
