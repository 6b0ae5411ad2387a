"""What happens inside one group in a round: steps 2 to 7 of the method, on the rank that hosts the group.

Layer 4, and no MPI: the group aggregator sees its own clients' uploads and scores, and only a sum leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.scoring.score import Scores, score_group
from hpcfsl.defense.screening import Screened
from hpcfsl.defense.threshold import Exclusion, exclude
from hpcfsl.defense.weighting import Survivors, TargetWeights, choose_rows, scale
from hpcfsl.defense.weighting.scaling import Scaling
from hpcfsl.fates import Fates, decide_fates
from hpcfsl.keeping import Keeping
from hpcfsl.parallel.clients import ClientTable
from hpcfsl.privacy.perturbation import clip_in_place, row_norms
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.fingerprint import Fingerprints, fingerprint
from hpcfsl.training.shared import Session
from hpcfsl.training.updates import FirstUpdates
from hpcfsl.undo import server_displacement
from hpcfsl.uploads import Uploads, send_uploads, train_clients
from hpcfsl.world import World


class GroupStatus(IntEnum):
    """What became of a group's update; values as in the trace."""

    USED = 0
    WITHHELD = 1
    EMPTY = 2


@dataclass(frozen=True, kw_only=True)
class ScoredGroup:
    """A group after step 3; `clients` are those whose upload arrived.

    Attributes:
        group: Its number.
        fates: All clients that the server counted on, and what became of them.
        first: Local training: clients, samples, losses; its updates are dropped once they are scored.
        uploads: First model updates as the aggregator uses them: perturbed, forged, clipped, float32 [clients, params].
        true_norms: Norms as trained, float64 [clients].
        norms: Norms as uploaded, before the aggregator's clip, float64 [clients]; not finite where the upload is not.
        lengths: Norms as the aggregator uses them, after its clip, float64 [clients].
        attackers: The truth, bool [clients].
        scores: Credit scores.
        weights: Aggregation weights before this round, float64 [clients].
        first_rounds: Round in which each client of `fates` was first seen, NaN where this is the first, float64.
        fingerprints: Hashes and sketches of the uploads, for the trace.
        session: What the server half went through that the clients share; None where they do not.
        screened: How their smashed data were judged before that; None where they were not.
    """

    group: int
    fates: Fates
    first: FirstUpdates
    uploads: torch.Tensor
    true_norms: NDArray[np.float64]
    norms: NDArray[np.float64]
    lengths: NDArray[np.float64]
    attackers: NDArray[np.bool_]
    scores: Scores
    weights: NDArray[np.float64]
    first_rounds: NDArray[np.float64]
    fingerprints: Fingerprints
    session: Session | None = None
    screened: Screened | None = None


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
        replayed: Samples, counted in each epoch, on which a shared server half was trained again.
    """

    scored: ScoredGroup
    exclusion: Exclusion
    influence: NDArray[np.float64]
    scaling: Scaling | None
    target: TargetWeights | None
    update: torch.Tensor | None
    status: GroupStatus
    replayed: int = 0


def train_and_score(
    world: World,
    start: torch.Tensor,
    clients: ClientTable,
    *,
    group: int,
    members: NDArray[np.int64],
    round: int,
    keeping: Keeping | None = None,
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
        keeping: What stays with clients; None where nothing does.
        watch: Times training and scoring apart.
    """
    watch = watch or Stopwatch()
    fates = decide_fates(world, members, round)
    with watch.phase("train"):
        first, session, screened = train_clients(world, start, fates, round, keeping)
        sent = send_uploads(world, first, fates, round)
    with watch.phase("score"):
        return replace(_score(world, clients, group, fates, first, sent), session=session, screened=screened)


def exclude_and_sum(
    world: World, scored: ScoredGroup, pool: NDArray[np.float64] | None, watch: Stopwatch | None = None
) -> SummedGroup:
    """Return one group after exclusion, weighting and the weighted sum (steps 4 to 7).

    Args:
        world: The run.
        scored: The group.
        pool: The credit scores that the threshold rule sees; None for the group's own.
        watch: Times scoring, and the undoing of a shared server half.
    """
    watch = watch or Stopwatch()
    with watch.phase("score"):
        summed = _exclude_and_sum(world, scored, pool)
    if scored.session is None or summed.update is None:
        return summed
    with watch.phase("undo"):
        return _settle_server(world, summed, scored.session)


def _settle_server(world: World, summed: SummedGroup, session: Session) -> SummedGroup:
    """Return a group whose update has the displacement of its shared server half in its place."""
    assert summed.target is not None
    assert summed.update is not None
    moved, samples = server_displacement(world, session, summed.exclusion.kept, summed.target)
    world.model.layout.server_half(summed.update).copy_(moved)
    if not _is_finite(summed.update):
        return replace(summed, update=None, status=GroupStatus.WITHHELD, replayed=samples)
    return replace(summed, replayed=samples)


def _exclude_and_sum(world: World, scored: ScoredGroup, pool: NDArray[np.float64] | None) -> SummedGroup:
    exclusion = exclude(world.config.threshold, scored.scores.credit, pool)
    if scored.session is not None:
        exclusion = replace(exclusion, kept=exclusion.kept & scored.session.used)
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
    update = world.config.group_operation.combine_chosen(scored.uploads, kept, target.factors)
    if target.server_factor != 1.0:
        world.model.layout.server_half(update).mul_(target.server_factor)
    usable = kept.sum() >= world.config.groups.min_survivors and target.mass > 0 and _is_finite(update)
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


def _score(
    world: World, clients: ClientTable, group: int, fates: Fates, first: FirstUpdates, sent: Uploads
) -> ScoredGroup:
    config, members, uploads = world.config, first.clients, sent.updates
    lengths = _clip(world, uploads, sent.norms)
    remembered = clients.look_up("credit", members)
    weights = clients.look_up("weight", members)
    return ScoredGroup(
        group=group,
        fates=fates,
        # What the clients trained is what they uploaded, in place: a rank holds no update twice.
        first=replace(first, updates=uploads.new_zeros(0)),
        uploads=uploads,
        true_norms=sent.true_norms,
        norms=sent.norms,
        lengths=lengths,
        attackers=sent.attackers,
        scores=score_group(config.score, uploads, sent.norms, remembered, world.model.layout),
        weights=np.where(np.isnan(weights), first.samples / world.mean_samples, weights),
        first_rounds=clients.look_up("first_round", fates.clients),
        fingerprints=fingerprint(uploads.cpu().numpy(), world.config.run.seed),
    )


def _clip(world: World, uploads: torch.Tensor, norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip what clients sent, in place, where the aggregator does; return the norms that all rows then have."""
    unsent = world.unsent
    bound = world.config.perturbation.bound(unsent.rest_size)
    if bound is None:
        return norms
    if not (world.config.protocol.shares_server and len(uploads)):
        return clip_in_place(uploads, norms, bound)
    sent = unsent.take_rest(uploads)
    clip_in_place(sent, row_norms(sent).cpu().numpy(), bound)
    unsent.put_rest(uploads, sent)
    return row_norms(uploads).cpu().numpy()


def _influence(world: World, scored: ScoredGroup, kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    # With sums over survivors an excluded client has no part in anybody's coefficient, not even through a median.
    measured = kept if world.config.bounds.sum_over == "survivors" else np.isfinite(scored.norms)
    influence, rule = np.full(len(kept), np.nan), world.config.influence
    if measured.any():
        seen = choose_rows(scored.uploads, measured) if rule.needs_updates else scored.uploads[:0]
        influence[measured] = rule.measure(seen, norms=scored.norms[measured], samples=scored.first.samples[measured])
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
        uploads=scored.uploads,
        kept=kept,
        lengths=scored.lengths[kept],
        samples=scored.first.samples[kept],
        loss=scored.first.loss_last[kept],
        coefficient=scaling.coefficient,
        weights=scored.weights[kept],
        local_rate=world.config.training.learning_rate,
        server_rate=world.config.training.server_half_learning_rate,
        client_size=world.model.layout.client_size,
    )


def _is_finite(update: torch.Tensor) -> bool:
    return bool(torch.isfinite(row_norms(update[None])))
