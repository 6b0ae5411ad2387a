"""What happens inside one group in a round: steps 2 to 7 of the method, on the rank that hosts the group.

Layer 4, and no MPI: the group aggregator sees its own clients' uploads and scores, and only a sum leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.scoring.score import Scores, finite_rows, score_group
from hpcfsl.defense.threshold import Exclusion, exclude
from hpcfsl.defense.weighting import Survivors, TargetWeights, scale
from hpcfsl.defense.weighting.scaling import Scaling
from hpcfsl.parallel.clients import ClientTable
from hpcfsl.privacy.perturbation import clip_norms, row_norms
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.threats import View
from hpcfsl.trace.fingerprint import Fingerprints, fingerprint
from hpcfsl.training.executors import train_group
from hpcfsl.training.updates import FirstUpdates, LocalData
from hpcfsl.world import World


class GroupStatus(IntEnum):
    """What became of a group's update; values as in the trace."""

    USED = 0
    WITHHELD = 1
    EMPTY = 2


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """A group after step 3.

    Attributes:
        group: Its number.
        first: Local training: clients, samples, losses; its updates are dropped once they are scored.
        uploads: First model updates as the aggregator uses them: perturbed, forged, clipped, float32 [clients, params].
        true_norms: Norms as trained, float64 [clients].
        norms: Norms as uploaded, before the aggregator's clip, float64 [clients].
        attackers: The truth, bool [clients].
        scores: Credit scores.
        weights: Aggregation weights before this round, float64 [clients].
        first_rounds: Round in which each client was first seen, NaN where this is the first, float64 [clients].
        fingerprints: Hashes and sketches of the uploads, for the trace.
    """

    group: int
    first: FirstUpdates
    uploads: torch.Tensor
    true_norms: NDArray[np.float64]
    norms: NDArray[np.float64]
    attackers: NDArray[np.bool_]
    scores: Scores
    weights: NDArray[np.float64]
    first_rounds: NDArray[np.float64]
    fingerprints: Fingerprints


@dataclass(frozen=True, kw_only=True)
class SummedGroup:
    """A group after step 7.

    Attributes:
        scored: What came before; its uploads are no longer needed.
        exclusion: Step 4.
        influence: Influence of each client, NaN where it was not measured, float64 [clients].
        scaling: Step 5, for the remaining clients; None where there are none.
        target: Step 6, for the remaining clients; None where there are none.
        update: Second model update, float32 [params]; None where the group has none to give.
        status: What became of it.
    """

    scored: ScoredGroup
    exclusion: Exclusion
    influence: NDArray[np.float64]
    scaling: Scaling | None
    target: TargetWeights | None
    update: torch.Tensor | None
    status: GroupStatus


def train_and_score(
    world: World,
    start: torch.Tensor,
    clients: ClientTable,
    *,
    group: int,
    members: NDArray[np.int64],
    round: int,
    watch: Stopwatch | None = None,
) -> ScoredGroup:
    """Return one group after local training, perturbation, attack and scoring (steps 2 and 3).

    Args:
        world: The run.
        start: Global model, float32 [params].
        clients: What is remembered of clients.
        group: The group's number.
        members: Its clients, int64, ascending.
        round: The round.
        watch: Times training and scoring apart.
    """
    watch = watch or Stopwatch()
    attackers = world.is_attacker(members, round)
    with watch.phase("train"):
        first = _train(world, start, members, attackers, round)
        uploads = _upload(world, first, attackers, round)
    with watch.phase("score"):
        return _score(world, clients, group, first, uploads, attackers)


def exclude_and_sum(world: World, scored: ScoredGroup, pool: NDArray[np.float64] | None) -> SummedGroup:
    """Return one group after exclusion, weighting and the weighted sum (steps 4 to 7).

    Args:
        world: The run.
        scored: The group.
        pool: The credit scores that the threshold rule sees; None for the group's own.
    """
    exclusion = exclude(world.config.threshold, scored.scores.credit, pool)
    kept = exclusion.kept
    influence = _influence(world, scored, kept)
    if not kept.any():
        return SummedGroup(
            scored=scored,
            exclusion=exclusion,
            influence=influence,
            scaling=None,
            target=None,
            update=None,
            status=GroupStatus.EMPTY,
        )
    scaling = _scale(world, scored, kept, influence)
    survivors = _survivors(world, scored, kept, scaling)
    target = world.config.weights.target_weights(survivors)
    update = world.config.group_operation.combine(survivors.updates, target.factors)
    usable = kept.sum() >= world.config.groups.min_survivors and target.mass > 0 and bool(torch.isfinite(update).all())
    status = GroupStatus.USED if usable else GroupStatus.WITHHELD
    return SummedGroup(
        scored=scored,
        exclusion=exclusion,
        influence=influence,
        scaling=scaling,
        target=target,
        update=update if usable else None,
        status=status,
    )


def _train(
    world: World, start: torch.Tensor, members: NDArray[np.int64], attackers: NDArray[np.bool_], round: int
) -> FirstUpdates:
    data, settings = _local_data(world, members, attackers), world.config.training
    return train_group(
        world.executor, start, data, chunk=settings.chunk_clients, seed=world.config.run.seed, round=round
    )


def _score(
    world: World,
    clients: ClientTable,
    group: int,
    first: FirstUpdates,
    uploads: torch.Tensor,
    attackers: NDArray[np.bool_],
) -> ScoredGroup:
    config, members = world.config, first.clients
    norms = row_norms(uploads).cpu().numpy()
    bound = config.perturbation.bound(world.model.layout.size)
    uploads = uploads if bound is None else clip_norms(uploads, bound)
    scores = score_group(config.score, uploads, norms, clients.look_up("credit", members), world.model.layout)
    weights = clients.look_up("weight", members)
    return ScoredGroup(
        group=group,
        # Updates as trained are needed no longer: a rank may hold the uploads of all its groups, but not twice.
        first=replace(first, updates=uploads.new_zeros(0)),
        uploads=uploads,
        true_norms=row_norms(first.updates).cpu().numpy(),
        norms=norms,
        attackers=attackers,
        scores=scores,
        weights=np.where(np.isnan(weights), first.samples / world.mean_samples, weights),
        first_rounds=clients.look_up("first_round", members),
        fingerprints=fingerprint(uploads.cpu().numpy(), world.config.run.seed),
    )


def _local_data(world: World, members: NDArray[np.int64], attackers: NDArray[np.bool_]) -> LocalData:
    counts = world.population.train_counts(members)
    rows = world.population.train_rows_of(members)
    inputs, targets = world.feed.inputs(rows), world.feed.targets(rows)
    bad = np.repeat(attackers, counts)
    if bad.any():
        inputs[bad], targets[bad] = world.config.threat.poison(
            inputs[bad], targets[bad], num_classes=world.feed.num_classes
        )
    return LocalData(
        clients=members,
        counts=counts,
        inputs=torch.from_numpy(inputs).to(world.device),
        targets=torch.from_numpy(targets).to(world.device),
    )


def _upload(world: World, first: FirstUpdates, attackers: NDArray[np.bool_], round: int) -> torch.Tensor:
    """Return what the aggregator receives: honest clients perturb, attackers forge and do not."""
    config, bad = world.config, torch.from_numpy(attackers)
    honest = ~attackers
    uploads = first.updates
    if config.perturbation.rule != "none" and honest.any():
        uploads = uploads.clone()
        uploads[~bad] = config.perturbation.perturb(
            first.updates[~bad], clients=first.clients[honest], seed=config.run.seed, round=round
        )
    if attackers.any():
        view = View(updates=uploads, attackers=bad, seed=config.run.seed, round=round, clients=first.clients)
        forged = config.threat.forge(view)
        uploads = uploads.clone()
        uploads[bad] = forged
    return uploads


def _influence(world: World, scored: ScoredGroup, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    # With sums over survivors an excluded client has no part in anybody's coefficient, not even through a median.
    measured = kept if world.config.bounds.sum_over == "survivors" else finite_rows(scored.uploads)
    influence = np.full(len(kept), np.nan)
    if measured.any():
        influence[measured] = world.config.influence.measure(
            _rows(scored.uploads, measured), norms=scored.norms[measured], samples=scored.first.samples[measured]
        )
    return influence


def _scale(world: World, scored: ScoredGroup, kept: NDArray[np.bool_], influence: NDArray[np.float64]) -> Scaling:
    credit = scored.scores.credit
    lost = ~kept & np.isfinite(credit) & ~np.isnan(influence)
    return scale(
        credit[kept],
        influence[kept],
        excluded_products=float((credit[lost] * influence[lost]).sum()),
        normalisation=world.config.normalisation,
        bounds=world.config.bounds,
    )


def _survivors(world: World, scored: ScoredGroup, kept: NDArray[np.bool_], scaling: Scaling) -> Survivors:
    return Survivors(
        updates=_rows(scored.uploads, kept),
        samples=scored.first.samples[kept],
        loss=scored.first.loss_last[kept],
        coefficient=scaling.coefficient,
        weights=scored.weights[kept],
        local_rate=world.config.training.learning_rate,
    )


def _rows(updates: torch.Tensor, chosen: NDArray[np.bool_]) -> torch.Tensor:
    """Return the chosen rows: selected out, never multiplied by 0, which would keep a NaN."""
    return updates if chosen.all() else updates[torch.from_numpy(chosen)]
