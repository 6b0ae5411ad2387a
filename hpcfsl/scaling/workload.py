"""What one round of a run has to do, in counts: the input of the cost model.

Layer 4. `of_world` reads the counts off a run that is ready to start; `evenly` makes them up for a run on paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.aggregate import GlobalAggregation
from hpcfsl.bench.flops import count_layers
from hpcfsl.evaluation import evaluated_clients
from hpcfsl.round import plan_round
from hpcfsl.training.batches import num_steps
from hpcfsl.world import World

Rule = Literal["weighted", "distances", "median"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One round in counts.

    Attributes:
        family: Whose training rates hold: a model's name.
        params: Parameters of the model.
        clients: Clients of each group, int64 [groups].
        samples: Training samples of each group, int64 [groups].
        steps: Local steps of each group, all epochs, int64 [groups].
        epochs: Local epochs.
        sample_flops: Floating point operations of one sample's forward pass.
        test_samples: Samples tested in a round, on average over rounds.
        shard: Test samples evaluated together.
        rule: What the rule across groups looks at: the groups' sums alone, all distances, or all slices.
        pooled: Whether thresholds pool the scores of all groups.
        hold_bytes: Bytes of waiting uploads that a rank holds in memory; the rest goes through a scratch file.
        vectors: Update vectors recorded in a round, on average over rounds.
        vector_bytes: Bytes of one.
        written: Rows written in a round over rows made in it: 1 over a run, 0 for rounds that no commit follows.
        commits: Commits in a round, on average over rounds.
    """

    family: str
    params: int
    clients: NDArray[np.int64]
    samples: NDArray[np.int64]
    steps: NDArray[np.int64]
    epochs: int = 1
    sample_flops: float
    test_samples: float = 0.0
    shard: int = 500
    rule: Rule = "distances"
    pooled: bool = False
    hold_bytes: float = math.inf
    vectors: float = 0.0
    vector_bytes: float = 0.0
    written: float = 1.0
    commits: float = 0.0

    @property
    def groups(self) -> int:
        """Groups that take part."""
        return len(self.clients)


def evenly(*, groups: int, clients: int, samples: int, batch: int, **rest: Any) -> Workload:
    """Return a workload whose groups are all alike: `clients` clients of `samples` samples in each."""
    sizes = np.full(groups, clients, np.int64)
    return Workload(clients=sizes, samples=sizes * samples, steps=sizes * -(-samples // batch), **rest)


def of_world(world: World, round: int = 0) -> Workload:
    """Return the counts of a round."""
    config, plan = world.config, plan_round(world, round)
    groups = [members for members in plan.groups if len(members)]
    counts = [world.population.train_counts(members) for members in groups]
    batch, epochs = config.training.batch_size, config.training.local_epochs
    vectors = recorded_vectors(world, sum(map(len, groups)), len(groups))
    return Workload(
        family=type(config.model).model_fields["name"].default,
        params=world.model.layout.size,
        clients=np.array([len(members) for members in groups], np.int64),
        samples=np.array([int(each.sum()) for each in counts], np.int64),
        steps=np.array([int(num_steps(each, batch_size=batch, epochs=epochs).sum()) for each in counts], np.int64),
        epochs=epochs,
        sample_flops=forward_flops(world),
        test_samples=_tested(world),
        shard=config.evaluation.shard,
        rule=_rule(world),
        pooled=config.threshold.scope == "pooled",
        hold_bytes=config.run.hold_mib * 2**20,
        vectors=vectors / config.trace.every,
        vector_bytes=world.model.layout.size * np.dtype(config.trace.dtype).itemsize,
        commits=1 / min(config.run.checkpoint_rounds, config.run.rounds),
    )


def recorded_vectors(world: World, clients: int, groups: int) -> int:
    """Return the update vectors of a round that is recorded."""
    kinds = {"none": 0, "global": 1, "group": 1 + groups, "client": 1 + groups + clients}
    return kinds[world.config.trace.updates]


def forward_flops(world: World) -> float:
    """Return the floating point operations of one sample's forward pass: products and sums of its layers.

    A layer of a kind that cannot be counted gets two operations a parameter.
    """
    sample = torch.from_numpy(world.feed.inputs(world.population.train_rows(0)[:1]))
    try:
        return float(sum(layer.forward for layer in count_layers(world.model.whole.cpu(), sample)))
    except ValueError:
        return 2.0 * world.model.layout.size


def _rule(world: World) -> Rule:
    rule = world.config.global_aggregation
    if rule.needs_distances:
        return "distances"
    # A rule that does not weigh sees every coordinate of every group, as the coordinate median does.
    return "weighted" if type(rule).aggregate is GlobalAggregation.aggregate else "median"


def _tested(world: World) -> float:
    settings = world.config.evaluation
    tested = world.feed.num_test / settings.every
    if world.feed.held_out is not None:
        _, counts = world.feed.held_out_clients()
        tested += int(counts.sum()) / settings.every
    if settings.clients_every:
        held_out = sum(len(world.population.test_rows(int(client))) for client in evaluated_clients(world))
        tested += held_out / settings.clients_every
    return tested
