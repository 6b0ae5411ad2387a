"""Turns what a round did into rows of the trace.

Layer 4. Each rank makes the rows of its own groups; root gathers and orders them and adds the round's own row.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.evaluation import Evaluation
from hpcfsl.group import GroupStatus, SummedGroup
from hpcfsl.parallel.device import describe_device
from hpcfsl.privacy.perturbation import row_norms
from hpcfsl.provenance import node_name
from hpcfsl.round import Outcome
from hpcfsl.rows import Rows, gather_tables, merge_rows
from hpcfsl.state import State
from hpcfsl.stopwatch import PHASES
from hpcfsl.trace.fingerprint import hash_bits
from hpcfsl.trace.record import RoundRecord
from hpcfsl.trace.schema import METRICS, POPULATIONS, TABLES
from hpcfsl.world import World

_PIECE = 65_536
KEPT, EXCLUDED, NON_FINITE, WITHHELD, LOST, SCREENED = range(6)
# What a client has whose upload never arrived, where that is not NaN.
_ABSENT = {"coefficient": 0.0, "status": LOST, "update_hash": 0}


def record_round(
    world: World, state: State, outcome: Outcome, evaluation: Evaluation, *, timings: dict[str, float], seconds: float
) -> RoundRecord | None:
    """Collective. Return the round's record on root, None elsewhere."""
    mine = {
        "participation": [participation_rows(world, group, outcome.round) for group in outcome.groups],
        "group_rounds": [group_rows(world, group, outcome) for group in outcome.groups],
        "clients": [client_rows(world, group, outcome.round) for group in outcome.groups],
        "timings": [timing_rows(world, outcome.round, timings)],
    }
    keys = {"participation": "client", "group_rounds": "group", "clients": "client", "timings": "rank"}
    tables = gather_tables(mine, keys, world.communicator)
    if world.communicator.rank != 0:
        return None
    tables["evaluation"] = evaluation_rows(world, outcome.round, evaluation)
    tables["metrics"] = metric_rows(outcome.round, evaluation)
    if outcome.round + 1 == world.config.evaluation.every and world.feed.held_out is not None:
        tables["clients"] = merge_rows([tables["clients"], held_out_rows(world, outcome.round)], "client")
    tables["rounds"] = round_row(tables, state, outcome, evaluation, seconds)
    return RoundRecord(round=outcome.round, tables=tables)


def participation_rows(world: World, group: SummedGroup, round: int) -> Rows:
    """Return one row a client of a group, lost ones among them, clients in id order."""
    fates, count = group.scored.fates, len(group.scored.fates.clients)
    return {
        **_with_lost(arrived_columns(group), fates.arrived),
        "round": np.full(count, round, np.int32),
        "client": fates.clients,
        "group": np.full(count, group.scored.group, np.int32),
        "raw_threshold": np.full(count, group.exclusion.raw_threshold),
        "threshold": np.full(count, group.exclusion.threshold),
        "fault": fates.faults,
        "attacker": fates.attackers.astype(np.int8),
        "num_samples": fates.samples,
        "num_steps": fates.steps,
        "bytes_smashed_up": fates.wire.smashed_up,
        "bytes_gradients_down": fates.wire.gradients_down,
        "bytes_labels_up": fates.wire.labels_up,
        "bytes_outputs_down": fates.wire.outputs_down,
        "bytes_output_gradients_up": fates.wire.output_gradients_up,
        "bytes_model_up": fates.wire.model_up,
        "bytes_model_down": fates.wire.model_down,
        "virtual_seconds": fates.seconds,
        "settings_hash": np.full(count, world.settings_hash, np.uint64),
    }


def arrived_columns(group: SummedGroup) -> Rows:
    """Return what only clients have whose upload arrived, one row each."""
    scored, kept, scaling, target = group.scored, group.exclusion.kept, group.scaling, group.target
    withheld = group.status != GroupStatus.USED
    return {
        "credit_score": scored.scores.credit,
        "components": scored.scores.components,
        "screening_score": np.full(len(kept), np.nan) if scored.screened is None else scored.screened.scores,
        "influence": group.influence,
        "share": _spread(kept, scaling.share if scaling else None),
        "raw_scaling": _spread(kept, scaling.raw_coefficient if scaling else None),
        "scaling": _spread(kept, scaling.coefficient if scaling else None),
        "loss_information": _spread(kept, target.loss_information if target else None),
        "weight_before": _spread(kept, target.before if target else None),
        "weight": _spread(kept, target.weight if target else None),
        "coefficient": _spread(kept, target.factors if target else None, absent=0.0),
        "status": _statuses(group, withheld),
        "loss_first": scored.first.loss_first,
        "loss_last": scored.first.loss_last,
        "norm": scored.true_norms,
        "uploaded_norm": scored.norms,
        "update_hash": scored.fingerprints.hashes,
        "sketch": scored.fingerprints.sketches,
    }


def group_rows(world: World, group: SummedGroup, outcome: Outcome) -> Rows:
    """Return the one row of a group."""
    scored, kept = group.scored, group.exclusion.kept
    across = world.across_bytes()
    used = group.status == GroupStatus.USED
    norm, distance = _norm_and_distance(group, outcome)
    row: dict[str, Any] = {
        "round": np.int32(outcome.round),
        "group": np.int32(scored.group),
        "rank": np.int32(world.communicator.rank),
        "num_clients": np.int32(len(scored.fates.clients)),
        "num_lost": np.int32((~scored.fates.arrived).sum()),
        "num_excluded": np.int32((~kept).sum()),
        "num_survivors": np.int32(kept.sum()),
        "num_attackers": np.int32(scored.fates.attackers.sum()),
        "status": np.int8(group.status),
        "raw_threshold": group.exclusion.raw_threshold,
        "threshold": group.exclusion.threshold,
        "screening_threshold": math.nan if scored.screened is None else scored.screened.threshold,
        "mass": group.target.mass if group.target else 0.0,
        "coefficient": outcome.factors[outcome.masses.groups.index(scored.group)] if used else 0.0,
        "norm": norm,
        "distance": distance,
        "num_replayed": np.int64(group.replayed),
        "bytes_across_up": np.int64(across if used else 0),
        "bytes_across_down": np.int64(across),
    }
    return {name: np.array([value]) for name, value in row.items()}


def client_rows(world: World, group: SummedGroup, round: int) -> Rows:
    """Return one row for each client of a group that is seen for the first time."""
    fates, new = group.scored.fates, np.isnan(group.scored.first_rounds)
    clients = fates.clients
    return {
        "client": clients[new],
        "first_round": np.full(int(new.sum()), round, np.int32),
        "owner": np.array([world.population.owner(client) for client in clients[new].tolist()], np.int64),
        "attacker": world.is_ever_attacker(clients[new]).astype(np.int8),
        "device_class": world.config.clock.device_names(clients[new], world.config.run.seed),
        "cut": world.cuts.names(clients[new]),
        "num_train": fates.samples[new],
        "num_test": world.population.test_counts(clients[new]),
        "held_out": np.zeros(int(new.sum()), np.int8),
    }


def held_out_rows(world: World, round: int) -> Rows:
    """Return one row for each client that never trains; they are first seen when they are first tested."""
    assert world.feed.held_out is not None
    clients, counts = world.feed.held_out_clients()
    return {
        "client": clients,
        "first_round": np.full(len(clients), round, np.int32),
        "owner": world.feed.held_out.owners,
        "attacker": np.zeros(len(clients), np.int8),
        "device_class": np.full(len(clients), b"", "S32"),
        "cut": np.full(len(clients), world.model.cut.encode()[:64], "S64"),
        "num_train": np.zeros(len(clients), np.int64),
        "num_test": counts,
        "held_out": np.ones(len(clients), np.int8),
    }


def timing_rows(world: World, round: int, timings: dict[str, float]) -> Rows:
    """Return one row a phase that this rank spent time in."""
    return {
        "round": np.full(len(timings), round, np.int32),
        "rank": np.full(len(timings), world.communicator.rank, np.int32),
        "phase": np.array([PHASES.index(name) for name in timings], np.int8),
        "seconds": np.array(list(timings.values()), np.float64),
    }


def evaluation_rows(world: World, round: int, evaluation: Evaluation) -> Rows:
    """Return one row an evaluated client."""
    if not evaluation.clients:
        return {column.name: np.zeros(0, column.numpy) for column in TABLES["evaluation"]}
    clients = evaluation.clients["client"]
    return {
        **evaluation.clients,
        "round": np.full(len(clients), round, np.int32),
        "held_out": (clients >= world.population.num_clients).astype(np.int8),
    }


def metric_rows(round: int, evaluation: Evaluation) -> Rows:
    """Return one row a metric of a population, in the order of their numbers."""
    rows = sorted(
        (POPULATIONS.index(population), METRICS.index(metric), value)
        for population, metrics in evaluation.metrics.items()
        for metric, value in metrics.items()
    )
    population, metric, value = np.array(rows, np.float64).reshape(len(rows), 3).T
    return {
        "round": np.full(len(rows), round, np.int32),
        "population": population.astype(np.int8),
        "metric": metric.astype(np.int8),
        "value": value,
    }


def round_row(tables: dict[str, Rows], state: State, outcome: Outcome, evaluation: Evaluation, seconds: float) -> Rows:
    """Return the round's own row, from the rows of its clients and groups."""
    clients, groups = tables["participation"], tables["group_rounds"]
    out = np.isin(clients["status"], (EXCLUDED, NON_FINITE, SCREENED))
    bad = clients["attacker"] == 1
    tested = tables["evaluation"]
    accuracy = tested["accuracy"][tested["held_out"] == 0]
    test = evaluation.metrics.get("test", {})
    up = sum(int(clients[name].sum()) for name in clients if name.startswith("bytes_") and name.endswith("_up"))
    down = sum(int(clients[name].sum()) for name in clients if name.startswith("bytes_") and name.endswith("_down"))
    row: dict[str, Any] = {
        "round": np.int32(outcome.round),
        "num_participants": np.int64(len(out)),
        "num_lost": np.int64((clients["status"] == LOST).sum()),
        "num_groups": np.int32(len(groups["group"])),
        "num_used_groups": np.int32(len(outcome.masses.groups)),
        "num_excluded": np.int64(out.sum()),
        "num_attackers": np.int64(bad.sum()),
        "num_attackers_excluded": np.int64((out & bad).sum()),
        "moved": np.int8(outcome.moved),
        "update_norm": _norm(outcome.update),
        "reduction_difference": outcome.difference,
        "model_hash": np.uint64(model_hash(state)),
        "train_loss": _mean_loss(clients),
        "test_accuracy": test.get("accuracy", math.nan),
        "test_loss": test.get("loss", math.nan),
        **{f"client_accuracy_{name}": value for name, value in _distribution(accuracy).items()},
        "bytes_up": np.int64(up + int(groups["bytes_across_up"].sum())),
        "bytes_down": np.int64(down + int(groups["bytes_across_down"].sum())),
        "virtual_seconds": outcome.virtual_seconds,
        "virtual_time": state.virtual_time,
        "seconds": seconds,
    }
    return {name: np.array([value]) for name, value in row.items()}


def rank_row(world: World, first_round: int) -> Rows:
    """Return where this rank runs."""
    row: dict[str, Any] = {
        "rank": np.int32(world.communicator.rank),
        "host": np.bytes_(node_name()[:64]),
        "pid": np.int64(os.getpid()),
        "device": np.bytes_(describe_device(world.device)[:64]),
        "threads": np.int32(world.config.run.threads),
        "first_round": np.int32(first_round),
    }
    return {name: np.array([value]) for name, value in row.items()}


def event_row(round: int, kind: str, text: str) -> Rows:
    """Return one event, now."""
    return {
        "time": np.array([datetime.now(UTC).isoformat(timespec="milliseconds")[:23].encode()]),
        "round": np.array([round], np.int32),
        "kind": np.array([kind[:16].encode()]),
        "text": np.array([text.encode()[:240]]),
    }


def model_hash(state: State) -> int:
    """Return the hash of the global model's bits."""
    return hash_bits(state.weights.cpu().numpy())


def _with_lost(rows: Rows, arrived: NDArray[np.bool_]) -> Rows:
    """Return rows of the clients that arrived as rows of all clients, bool [clients]; of others nothing is known."""
    if arrived.all():
        return rows
    spread = {}
    for name, values in rows.items():
        spread[name] = np.full((len(arrived), *values.shape[1:]), _ABSENT.get(name, np.nan), values.dtype)
        spread[name][arrived] = values
    return spread


def _spread(kept: NDArray[np.bool_], values: NDArray[np.float64] | None, absent: float = np.nan) -> NDArray[np.float64]:
    spread = np.full(len(kept), absent)
    if values is not None:
        spread[kept] = values
    return spread


def _statuses(group: SummedGroup, withheld: bool) -> NDArray[np.int8]:
    credit, session = group.scored.scores.credit, group.scored.session
    status = np.where(group.exclusion.kept, WITHHELD if withheld else KEPT, EXCLUDED)
    if session is not None:
        status[~session.used] = SCREENED
    return np.where(np.isfinite(credit), status, NON_FINITE).astype(np.int8)


def _norm_and_distance(group: SummedGroup, outcome: Outcome) -> tuple[float, float]:
    if group.update is None:
        return float("nan"), float("nan")
    second = group.update.cpu()
    return _norm(second), float("nan") if outcome.update is None else _distance(second, outcome.update)


def _norm(update: torch.Tensor | None) -> float:
    return 0.0 if update is None else float(row_norms(update[None]))


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the Euclidean distance, by pieces whose float64 copies stay in a core's cache."""
    pieces = (slice(first, first + _PIECE) for first in range(0, len(one), _PIECE))
    norms = [float(torch.linalg.vector_norm(one[piece].double() - other[piece].double())) for piece in pieces]
    return math.hypot(*norms)


def _mean_loss(clients: Rows) -> float:
    arrived = clients["status"] != LOST
    samples = clients["num_samples"][arrived]
    return float((clients["loss_last"][arrived] * samples).sum() / samples.sum()) if len(samples) else float("nan")


def _distribution(accuracy: NDArray[np.float64]) -> dict[str, float]:
    if not len(accuracy):
        return dict.fromkeys(("mean", "min", "p10", "median", "max"), float("nan"))
    return {
        "mean": float(accuracy.mean()),
        "min": float(accuracy.min()),
        "p10": float(np.quantile(accuracy, 0.1)),
        "median": float(np.median(accuracy)),
        "max": float(accuracy.max()),
    }
