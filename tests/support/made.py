"""Made-up groups and small worlds for tests of the method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hpcfsl.aggregate import GroupMasses
from hpcfsl.aggregate.across import TargetUpdate
from hpcfsl.config import Config, resolve
from hpcfsl.defense.scoring.score import score_group
from hpcfsl.fates import Fates
from hpcfsl.group import GroupStatus, ScoredGroup, SummedGroup, exclude_and_sum
from hpcfsl.models.layout import Layout
from hpcfsl.parallel.communicator import Communicator, SerialCommunicator
from hpcfsl.privacy.perturbation import row_norms
from hpcfsl.state import State, initial_state
from hpcfsl.trace.fingerprint import Fingerprints
from hpcfsl.training.protocols import WireBytes
from hpcfsl.training.updates import FirstUpdates
from hpcfsl.world import World, build_world

torch.set_num_threads(1)  # as in a run; two busy threads a test only get into each other's way

METHODS = ("literal", "hardened")
PRESETS = ("literal", "hardened", "averaging")


def configure(preset: str, **sections: dict[str, Any]) -> Config:
    """Return a configuration; `sections` go before the preset."""
    return resolve({"run": {"preset": preset}, **sections})


def make_layout(size: int, client_size: int | None = None) -> Layout:
    half = size // 2 if client_size is None else client_size
    return Layout(names=("client.a", "server.b"), shapes=((half,), (size - half,)), client_size=half)


def make_scored(
    config: Config,
    updates: np.ndarray,
    samples: Sequence[int] | np.ndarray,
    *,
    group: int = 0,
    clients: np.ndarray | None = None,
    loss: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> ScoredGroup:
    """Return a group after step 3, as `train_and_score` would without training."""
    count = len(updates)
    uploads = torch.from_numpy(np.asarray(updates, np.float32))
    samples = np.asarray(samples, np.int64)
    norms = row_norms(uploads).numpy()
    loss = np.ones(count) if loss is None else loss
    remembered = np.full(count, np.nan)
    clients = np.arange(count) if clients is None else clients
    return ScoredGroup(
        group=group,
        fates=make_fates(clients, samples),
        first=FirstUpdates(
            clients=clients,
            updates=uploads,
            samples=samples,
            steps=np.ones(count, np.int64),
            loss_first=loss,
            loss_last=loss,
        ),
        uploads=uploads,
        true_norms=norms,
        norms=norms,
        lengths=norms,
        attackers=np.zeros(count, bool),
        scores=score_group(config.score, uploads, norms, remembered, make_layout(uploads.shape[1])),
        weights=samples / samples.mean() if weights is None else weights,
        first_rounds=np.full(count, np.nan),
        fingerprints=Fingerprints(hashes=np.zeros(count, np.uint64), sketches=np.zeros((count, 64), np.float32)),
    )


def no_bytes(count: int) -> WireBytes:
    """Return the bytes of clients that send and receive nothing."""
    return WireBytes(**{field.name: np.zeros(count, np.int64) for field in fields(WireBytes)})


def make_fates(clients: np.ndarray, samples: np.ndarray) -> Fates:
    """Return the fates of honest clients that all arrive, without a clock."""
    count = len(clients)
    return Fates(
        clients=clients,
        samples=samples,
        attackers=np.zeros(count, bool),
        faults=np.zeros(count, np.int8),
        steps=np.ones(count, np.int64),
        wire=no_bytes(count),
        seconds=np.full(count, np.nan),
    )


def sum_group(config: Config, scored: ScoredGroup, pool: np.ndarray | None = None) -> SummedGroup:
    """Return the group after step 7."""
    model = SimpleNamespace(layout=make_layout(scored.uploads.shape[1]))
    world = SimpleNamespace(config=config, model=model)
    return exclude_and_sum(world, scored, pool)  # type: ignore[arg-type]  # settings and the layout suffice


@dataclass(frozen=True, kw_only=True)
class Defended:
    """The outcome of the defence: every group, and the target update (None where there is none)."""

    groups: list[SummedGroup]
    target: TargetUpdate | None

    @property
    def update(self) -> np.ndarray | None:
        return None if self.target is None else self.target.update.numpy()

    def influence_of(self, group: int, client: int) -> float:
        """Return the factor of one client's first model update in the target update."""
        summed = self.groups[group]
        used = [g for g, each in enumerate(self.groups) if each.status == GroupStatus.USED]
        if self.target is None or group not in used or not summed.exclusion.kept[client]:
            return 0.0
        assert summed.target is not None
        factor = summed.target.factors[np.flatnonzero(summed.exclusion.kept).tolist().index(client)]
        return float(factor * self.target.factors[used.index(group)])


def defend(
    config: Config, scored: Sequence[ScoredGroup], *, anchor: np.ndarray | None = None, planned: int | None = None
) -> Defended:
    """Return steps 4 to 8 for groups that are already scored, on one rank."""
    pool = None
    if config.threshold.scope == "pooled":
        pool = np.concatenate([group.scores.credit for group in scored])
    groups = [sum_group(config, group, pool) for group in scored]
    used = {g: each.update for g, each in enumerate(groups) if each.update is not None}
    if not used:
        return Defended(groups=groups, target=None)
    masses = np.array([groups[g].target.mass for g in used])  # type: ignore[union-attr]  # a used group has a target
    size = scored[0].uploads.shape[1]
    target = config.global_aggregation.aggregate(
        used,
        GroupMasses(groups=tuple(used), masses=masses, planned=planned or len(groups)),
        anchor=torch.zeros(size) if anchor is None else torch.from_numpy(anchor.astype(np.float32)),
        communicator=SerialCommunicator(),
    )
    return Defended(groups=groups, target=target)


def defend_updates(config: Config, updates: np.ndarray, samples: np.ndarray, groups: Sequence[np.ndarray]) -> Defended:
    """Return steps 3 to 8 for first model updates."""
    scored = [
        make_scored(config, updates[members], samples[members], group=g, clients=members)
        for g, members in enumerate(groups)
    ]
    return defend(config, scored)


SMALL = {
    "data": {"source": "synthetic", "shape": [6], "classes": 3, "samples": 240, "test_samples": 60, "owners": 12},
    "model": {"name": "mlp", "hidden": [8, 5], "cut": "relu1"},
    "training": {"batch_size": 4},
    "groups": {"number": 3},
}


def small_config(preset: str = "hardened", *, seed: int = 1, **sections: dict[str, Any]) -> Config:
    """Return a configuration of 12 clients in 3 groups that trains in milliseconds."""
    merged = {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {*SMALL, *sections}}
    for name, key in (("data", "source"), ("model", "name")):
        if sections.get(name, {}).get(key, SMALL[name][key]) != SMALL[name][key]:
            merged[name] = sections[name]
    return resolve({"run": {"preset": preset, "seed": seed}, **merged})


def small_world(config: Config, communicator: Communicator | None = None, **replacements: Any) -> World:
    return build_world(config, communicator or SerialCommunicator(), **replacements)


def first_state(world: World) -> State:
    return initial_state(world)


def as_bits(values: np.ndarray | torch.Tensor) -> bytes:
    return np.ascontiguousarray(values.numpy() if isinstance(values, torch.Tensor) else values).tobytes()
