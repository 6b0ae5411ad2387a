"""What the clients of a group do in a round: train and send their first model updates (step 2).

Layer 4. Honest clients perturb what they send, attackers forge it, and faults corrupt it, in this order and in place,
so that a rank never holds an update twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.screening import FirstPass, Screened, screen
from hpcfsl.fates import Fates
from hpcfsl.faults.corruption import corrupt_in_place
from hpcfsl.keeping import Keeping
from hpcfsl.privacy.perturbation import row_norms
from hpcfsl.threats import OwnData, View
from hpcfsl.training.executors import train_group
from hpcfsl.training.shared import Conditions, Session, SharedTrainer
from hpcfsl.training.updates import FirstUpdates, LocalData, no_updates
from hpcfsl.world import World


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """What the aggregator of a group receives.

    Attributes:
        updates: First model updates as received, float32 [clients, params].
        true_norms: Norms as trained, float64 [clients].
        norms: Norms as received, float64 [clients].
        attackers: The truth, bool [clients].
    """

    updates: torch.Tensor
    true_norms: NDArray[np.float64]
    norms: NDArray[np.float64]
    attackers: NDArray[np.bool_]


def train_clients(
    world: World, start: torch.Tensor, fates: Fates, round: int, keeping: Keeping | None = None
) -> tuple[FirstUpdates, Session | None, Screened | None]:
    """Train the clients whose upload will arrive; nobody sees what the others would have made.

    What stays with the clients is kept, and is no part of the updates: zeros stand in its places. Where the clients
    share their server half, its session comes too, and how they were screened.
    """
    arrived, judged = fates.arrived, list[Screened]()
    if not arrived.any():
        return no_updates(world.model.layout.size), None, None
    data = _local_data(world, fates.clients[arrived], fates.attackers[arrived], round)
    if keeping is not None:
        start, data = keeping.prepare(start, data)
    executor, seed, session = world.executor, world.config.run.seed, None
    if isinstance(executor, SharedTrainer):
        conditions = _conditions(world, fates.attackers[arrived], round, judged)
        first, session = executor.train(start, data, seed=seed, round=round, conditions=conditions)
    else:
        first = train_group(executor, start, data, chunk=executor.chunk_clients, seed=seed, round=round)
    if keeping is not None:
        keeping.take_back(first, start)
    return first, session, judged[0] if judged else None


def send_uploads(world: World, first: FirstUpdates, fates: Fates, round: int) -> Uploads:
    """Turn updates into uploads, in place: honest clients perturb, attackers forge and do not, faults corrupt.

    Nobody does anything to what stays with clients, or to what the server itself knows of a half that they share,
    because it is not sent.
    """
    unsent, updates = world.unsent, first.updates
    if not unsent.size or not len(updates):
        return _send(world, first, fates, round)
    true_norms = row_norms(updates).cpu().numpy()
    sent = _send(world, replace(first, updates=unsent.take_rest(updates)), fates, round)
    unsent.put_rest(updates, sent.updates)
    return replace(sent, updates=updates, true_norms=true_norms, norms=row_norms(updates).cpu().numpy())


def _send(world: World, first: FirstUpdates, fates: Fates, round: int) -> Uploads:
    config, updates, seed = world.config, first.updates, world.config.run.seed
    arrived = fates.arrived
    attackers = fates.attackers[arrived]
    if not len(updates):
        return Uploads(updates=updates, true_norms=np.zeros(0), norms=np.zeros(0), attackers=attackers)
    true_norms = row_norms(updates).cpu().numpy()
    norms = config.perturbation.perturb_in_place(
        updates, true_norms, honest=~attackers, clients=first.clients, seed=seed, round=round
    )
    if attackers.any():
        bad = torch.from_numpy(attackers)
        view = View(updates=updates, attackers=bad, seed=seed, round=round, clients=first.clients)
        forged = config.threat.forge(view).contiguous()
        updates[bad] = forged
        norms = norms.copy()
        norms[attackers] = row_norms(forged).cpu().numpy()
    broken = corrupt_in_place(
        config.faults, updates, fates.faults[arrived], clients=first.clients, seed=seed, round=round
    )
    if broken.any():
        norms = norms.copy()
        norms[broken] = row_norms(updates[torch.from_numpy(broken)]).cpu().numpy()
    return Uploads(updates=updates, true_norms=true_norms, norms=norms, attackers=attackers)


def _conditions(world: World, attackers: NDArray[np.bool_], round: int, judged: list[Screened]) -> Conditions:
    """Return who lies about smashed data in a round, and who judges them; what is judged is added to `judged`."""
    config, seed = world.config, world.config.run.seed

    def poison(client: int, step: int, smashed: torch.Tensor) -> torch.Tensor:
        clients = np.array([client], np.int64)
        return config.threat.poison_smashed(smashed[None], seed=seed, round=round, clients=clients, step=step)[0]

    def judge(smashed: torch.Tensor, counts: NDArray[np.int64], labels: torch.Tensor | None) -> NDArray[np.bool_]:
        judged.append(screen(config.screening, FirstPass(smashed=smashed, counts=counts, labels=labels)))
        return judged[-1].used

    undo = config.protocol.undoes
    return Conditions(
        liars=attackers if config.threat.poisons_smashed else None,
        poison=poison,
        screen=judge if undo == "screen" else None,
        records=undo == "replay",
    )


def _local_data(world: World, members: NDArray[np.int64], attackers: NDArray[np.bool_], round: int) -> LocalData:
    counts = world.population.train_counts(members)
    rows = world.population.train_rows_of(members)
    inputs, targets = world.feed.inputs(rows), world.feed.targets(rows)
    bad = np.repeat(attackers, counts)
    if bad.any():
        own = OwnData(
            clients=members[attackers],
            counts=counts[attackers],
            inputs=inputs[bad],
            targets=targets[bad],
            num_classes=world.feed.num_classes,
            vocabulary=world.feed.dataset.vocabulary,
            seed=world.config.run.seed,
            round=round,
        )
        inputs[bad], targets[bad] = world.config.threat.poison(own)
    return LocalData(
        clients=members,
        counts=counts,
        inputs=torch.from_numpy(inputs),
        targets=torch.from_numpy(targets),
    )
