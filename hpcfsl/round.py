"""One round of the method, from the global model to the next global model (P2).

Layer 4. `run_round` reads like the description: divide, train, score, exclude, weigh, sum in groups, sum across groups.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate import GroupMasses, TargetUpdate
from hpcfsl.aggregate.server import apply_update
from hpcfsl.fates import seconds_waited
from hpcfsl.group import GroupStatus, ScoredGroup, SummedGroup, exclude_and_sum, train_and_score
from hpcfsl.holding import MIB, HeldGroup, Holding
from hpcfsl.keeping import Keeping
from hpcfsl.parallel.clients import ClientTable
from hpcfsl.parallel.homes import fetch_clients, send_home
from hpcfsl.parallel.placement import place
from hpcfsl.state import State
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.world import World

Sink = Callable[[SummedGroup], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who takes part in a round, in which group, and where (step 1).

    Attributes:
        groups: Members of each group, ids ascending.
        ranks: The rank that hosts each group.
    """

    groups: tuple[NDArray[np.int64], ...]
    ranks: NDArray[np.int64]

    def of_rank(self, rank: int) -> list[int]:
        """Return the numbers of the groups that a rank hosts and that have members."""
        return [g for g, members in enumerate(self.groups) if self.ranks[g] == rank and len(members)]

    def hosted(self, ranks: int) -> list[NDArray[np.int64]]:
        """Return the clients of each rank's groups, ids ascending, int64 [clients] each."""
        clients = np.concatenate(self.groups)
        hosts = np.repeat(self.ranks, [len(members) for members in self.groups])
        order = np.lexsort((clients, hosts))
        return np.split(clients[order], np.searchsorted(hosts[order], np.arange(1, ranks)))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a round did, as this rank knows it.

    Attributes:
        round: The round.
        plan: Step 1.
        groups: This rank's groups after step 7, without their uploads.
        masses: All groups that took part in step 8.
        factors: Their weights in the target update.
        update: Target update of the global model, float32 [params]; None where no group had one.
        moved: Whether the global model moved.
        virtual_seconds: Virtual time that the round took, NaN without a clock.
        difference: How far a float32 sum over groups is from the exact one; NaN for the exact one.
    """

    round: int
    plan: Plan
    groups: tuple[SummedGroup, ...]
    masses: GroupMasses
    factors: NDArray[np.float64]
    update: torch.Tensor | None
    moved: bool
    virtual_seconds: float
    difference: float


def run_round(
    world: World, state: State, round: int, watch: Stopwatch, sink: Sink | None = None, scratch: Path | None = None
) -> tuple[State, Outcome]:
    """Collective. Run one round; return the state after it and what happened.

    Args:
        world: The run.
        state: The state before the round.
        round: The round.
        watch: Times the phases.
        sink: Shown each of this rank's groups while its clients' uploads are still held.
        scratch: Folder for uploads that wait and do not fit into memory; the system's own for such files by default.

    Raises:
        UserError: Waiting uploads cannot be written to that folder.
    """
    plan = plan_round(world, round)
    hosted = plan.hosted(world.communicator.size)
    with watch.phase("gather"):
        clients, keeping = fetch_clients(state.clients, hosted, world.communicator), Keeping(world, state)
        keeping.fetch(hosted)
    scored = _train_and_score(world, state, clients, keeping, plan, round, watch)
    budget = int(world.config.run.hold_mib * MIB)
    with Holding(budget, scratch or Path(tempfile.gettempdir())) as holding:
        groups = _exclude_and_sum(world, state, scored, keeping, watch, sink, holding)
    with watch.phase("gather"):
        masses = _gather_masses(world, groups, len(plan.groups))
        state = _remember(world, state, hosted, groups, round)
        seconds = _virtual_seconds(world, groups, masses)
    with watch.phase("aggregate"):
        target = _aggregate(world, state, groups, masses)
        update = None if target is None else target.update.float()
        state, moved = _apply(world, state, update)
        state = keeping.finish(state, len(plan.groups))
    state = replace(state, virtual_time=state.virtual_time + seconds)
    outcome = Outcome(
        round=round,
        plan=plan,
        groups=groups,
        masses=masses,
        factors=np.zeros(0) if target is None else target.factors,
        update=update,
        moved=moved,
        virtual_seconds=seconds,
        difference=math.nan if target is None else target.difference,
    )
    return state, outcome


def plan_round(world: World, round: int) -> Plan:
    """Return who takes part, in which group, on which rank; every rank computes the same plan."""
    config = world.config
    clients = config.participation.draw(world.population.num_clients, config.run.seed, round)
    samples = world.population.train_counts(clients)
    groups = tuple(config.groups.divide(clients, samples=samples, seed=config.run.seed, round=round))
    costs = np.array([int(samples[np.searchsorted(clients, members)].sum()) for members in groups], np.int64)
    return Plan(groups=groups, ranks=place(config.run.placement, costs, world.communicator.size, round))


def _train_and_score(
    world: World, state: State, clients: ClientTable, keeping: Keeping, plan: Plan, round: int, watch: Stopwatch
) -> Iterator[ScoredGroup]:
    """Yield this rank's groups after step 3, one at a time, so that memory follows a group and not the cohort."""
    for group in plan.of_rank(world.communicator.rank):
        members, start = plan.groups[group], state.weights
        with watch.in_group(group):
            yield train_and_score(
                world, start, clients, group=group, members=members, round=round, keeping=keeping, watch=watch
            )


def _exclude_and_sum(
    world: World,
    state: State,
    scored: Iterable[ScoredGroup],
    keeping: Keeping,
    watch: Stopwatch,
    sink: Sink | None,
    holding: Holding,
) -> tuple[SummedGroup, ...]:
    scope, pool = world.config.threshold.scope, None
    if scope == "pooled":
        held, pool = _wait_for_all(world, scored, watch, holding)
        scored = _release(held, watch, holding)

    def finish(group: ScoredGroup) -> SummedGroup:
        seen = np.concatenate([group.scores.credit, *state.score_pool]) if scope == "memory" else pool
        with watch.in_group(group.group):
            done = exclude_and_sum(world, group, seen, watch)
            with watch.phase("other"):
                _settle(keeping, done)
            if sink is not None:
                sink(done)
            return _without_uploads(done)

    # Not a loop, whose variable would keep a group's uploads while the next group trains.
    return tuple(map(finish, scored))


def _settle(keeping: Keeping, group: SummedGroup) -> None:
    """Keep what follows from the uploads of a group whose update is used."""
    if group.status == GroupStatus.USED:
        keeping.settle(group.scored.first, group.scored.uploads, group.exclusion.kept)


def _wait_for_all(
    world: World, scored: Iterable[ScoredGroup], watch: Stopwatch, holding: Holding
) -> tuple[list[HeldGroup], NDArray[np.float64]]:
    """Collective. Return this rank's groups and the scores of all groups, once every group is scored."""

    def hold(group: ScoredGroup) -> HeldGroup:
        with watch.phase("other"):
            return holding.put(group)

    held = list(map(hold, scored))
    mine = [(each.scored.group, each.scored.scores.credit) for each in held]
    with watch.phase("gather"):
        parts = world.communicator.gather_all(mine)
    pairs = sorted((pair for part in parts for pair in part), key=lambda pair: pair[0])
    return held, np.concatenate([credit for _, credit in pairs])


def _release(held: list[HeldGroup], watch: Stopwatch, holding: Holding) -> Iterator[ScoredGroup]:
    """Yield the groups in the order that they came, and forget each once it is handed out."""
    held.reverse()
    while held:
        with watch.phase("other"):
            group = [holding.get(held.pop())]
        yield group.pop()


def _without_uploads(summed: SummedGroup) -> SummedGroup:
    none = summed.scored.uploads.new_zeros(0)
    session = summed.scored.session
    forgotten = None if session is None else session.forget()
    return replace(summed, scored=replace(summed.scored, uploads=none, session=forgotten))


def _gather_masses(world: World, groups: tuple[SummedGroup, ...], planned: int) -> GroupMasses:
    mine = [(g.scored.group, g.target.mass) for g in groups if g.status == GroupStatus.USED and g.target]
    used = sorted(pair for part in world.communicator.gather_all(mine) for pair in part)
    return GroupMasses(
        groups=tuple(group for group, _ in used), masses=np.array([mass for _, mass in used]), planned=planned
    )


def _remember(
    world: World,
    state: State,
    hosted: list[NDArray[np.int64]],
    groups: tuple[SummedGroup, ...],
    round: int,
) -> State:
    """Collective. Return the state with every participating client's new score and weight in it."""
    news = _client_news(world, hosted[world.communicator.rank], groups, round)
    send_home(state.clients, hosted, news, world.communicator)
    if world.config.threshold.scope != "memory":
        return state
    scores = np.concatenate(world.communicator.gather_all(news["credit"]))[np.argsort(np.concatenate(hosted))]
    return replace(state, score_pool=(*state.score_pool, scores[~np.isnan(scores)])[-world.config.threshold.window :])


def _client_news(
    world: World, clients: NDArray[np.int64], groups: tuple[SummedGroup, ...], round: int
) -> dict[str, NDArray[np.float64]]:
    """Return what is new about this rank's clients: NaN where there is nothing new, float64 [clients] each."""
    credit, weight, first_round = (np.full(len(clients), np.nan) for _ in range(3))
    for group in groups:
        places = np.searchsorted(clients, group.scored.first.clients)
        scores = group.scored.scores.credit
        credit[places] = np.where(np.isfinite(scores), scores, np.nan)
        first_round[np.searchsorted(clients, group.scored.fates.clients)] = _first_rounds(group, round)
        if group.target is not None and world.config.weights.keeps_weights:
            weight[places[group.exclusion.kept]] = group.target.weight
    return {"credit": credit, "weight": weight, "first_round": first_round}


def _virtual_seconds(world: World, groups: tuple[SummedGroup, ...], masses: GroupMasses) -> float:
    """Collective. Return the round's virtual time: the slowest group, then the exchange across groups.

    A group takes as long as its slowest client that is waited for, and then its replay; with pooled thresholds nobody
    knows whom to replay before all groups are scored.
    """
    clock = world.config.clock
    if not clock.is_on:
        return float("nan")
    operations = world.undo_operations.replayed
    mine = [
        (seconds_waited(group.scored.fates, clock.deadline), clock.server_seconds(float(group.replayed * operations)))
        for group in groups
    ]
    waited, undone = zip(*(pair for part in world.communicator.gather_all(mine) for pair in part), strict=True)
    pooled = world.config.threshold.scope == "pooled"
    slowest = max(waited) + max(undone) if pooled else max(map(sum, zip(waited, undone, strict=True)))
    size = world.across_bytes()
    return slowest + clock.across_seconds(up_bytes=size if masses.groups else 0, down_bytes=size)


def _first_rounds(group: SummedGroup, round: int) -> NDArray[np.float64]:
    seen = group.scored.first_rounds
    return np.where(np.isnan(seen), float(round), seen)


def _aggregate(world: World, state: State, groups: tuple[SummedGroup, ...], masses: GroupMasses) -> TargetUpdate | None:
    """Collective. Return the target update (step 8), or None where no group has an update."""
    if not masses.groups:
        return None
    updates = {group.scored.group: group.update.cpu() for group in groups if group.update is not None}
    rule, anchor = world.config.global_aggregation, state.last_update.cpu()
    return rule.aggregate(updates, masses, anchor=anchor, communicator=world.communicator)


def _apply(world: World, state: State, update: torch.Tensor | None) -> tuple[State, bool]:
    """Return the state with the target update applied; a step that would leave the finite numbers is not taken."""
    if update is None:
        return state, False
    config, update = world.config, update.to(state.weights.device)
    training = config.training
    moved = apply_update(
        config.server_optimizer,
        state.weights,
        state.moments,
        update,
        rate=training.server_learning_rate * training.server_learning_rate_decay**state.server_steps,
        steps=state.server_steps,
    )
    if moved is None:
        return state, False
    steps = state.server_steps + 1
    # The last update is the target update itself, whatever the optimiser made of it: rules clip round that.
    return replace(state, weights=moved.weights, last_update=update, moments=moved.moments, server_steps=steps), True
