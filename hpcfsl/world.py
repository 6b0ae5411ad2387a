"""Everything that stays the same from round to round, made from the configuration.

Layer 4. A `World` is built once a run on every rank: the population and its data, the split model, the executor, the
attackers, the ranks. A user's own module or data take the place of the configured ones here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.config import Config, result_settings
from hpcfsl.cuts import ClientCuts, build_module, client_bytes, make_cuts, make_model, samples_of
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.feed import Feed
from hpcfsl.data.held_out import divide_off
from hpcfsl.data.population import Population
from hpcfsl.errors import ConfigError, UserError, one_line
from hpcfsl.models.operations import HalfOperations, UndoOperations, count_halves, count_undo
from hpcfsl.models.part import Part
from hpcfsl.models.split import SplitModel
from hpcfsl.parallel.communicator import Communicator, agree
from hpcfsl.parallel.device import find_device
from hpcfsl.parallel.sharing import share_on_node
from hpcfsl.targets import load_data, note_on_targets, settle_targets
from hpcfsl.training.executors import Executor, make_executor
from hpcfsl.training.poisoned import PoisonedExecutor
from hpcfsl.training.protocols import WireBytes
from hpcfsl.training.settings import LossName
from hpcfsl.training.shared import SharedTrainer, make_shared

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """What a round needs to know.

    Attributes:
        config: All settings.
        population: Whose samples are whose.
        feed: The samples.
        model: The split model.
        executor: Local training.
        communicator: The ranks.
        device: Where this rank computes.
        attackers: Ids of the attacking clients, int64, ascending. The defence never sees them.
        mean_samples: Mean training samples of a client.
        cuts: Where each client's model is cut, and the operations of the halves there.
        warnings: What the ranks could not do as they should, one sentence each (root).
    """

    config: Config
    population: Population
    feed: Feed
    model: SplitModel
    executor: Executor | SharedTrainer
    communicator: Communicator
    device: torch.device
    attackers: NDArray[np.int64]
    mean_samples: float
    cuts: ClientCuts
    warnings: tuple[str, ...] = ()

    @cached_property
    def settings_hash(self) -> int:
        """First 64 bits of the sha256 of the settings that bear on the result."""
        return int.from_bytes(hashlib.sha256(result_settings(self.config).encode()).digest()[:8], "little")

    @cached_property
    def personal(self) -> Part:
        """The parameters that stay with their client across rounds; of size 0 for most protocols."""
        return Part(self.model.layout, self.config.protocol.personal_names(self.model.layout))

    @cached_property
    def unsent(self) -> Part:
        """The parameters of which no client uploads an update: personal ones, and a server half that many share."""
        names = self.model.layout.names if self.config.protocol.shares_server else ()
        return Part(self.model.layout, (*self.personal.names, *(name for name in names if name.startswith("server."))))

    @cached_property
    def undo_operations(self) -> UndoOperations:
        """Operations of undoing for one sample; zeros where nothing is shared, or the clock is off."""
        counts = self.config.clock.is_on and self.config.protocol.shares_server
        return count_undo(self.model) if counts else UndoOperations()

    def wire_bytes(self, samples: NDArray[np.int64], clients: NDArray[np.int64] | None = None) -> WireBytes:
        """Return the bytes of one round for clients with `samples` training samples each, int64 [clients].

        `clients` are their ids, where their own cuts matter; without, all are cut at `model.cut`.
        """

        def count(model: SplitModel) -> WireBytes:
            return client_bytes(self.config, model, samples)

        return count(self.model) if clients is None else self.cuts.wire_bytes(clients, count)

    def across_bytes(self) -> int:
        """Return the bytes between a group and the root (either direction): an update, and for SCAFFOLD its c."""
        return self.config.protocol.across_bytes(self.model) * (1 if self.config.training.drift == "none" else 2)

    def is_attacker(self, clients: NDArray[np.int64], round: int) -> NDArray[np.bool_]:
        """Return which of `clients` attack in a round, bool [clients]."""
        return self.is_ever_attacker(clients) & (round >= self.config.threat.first_round)

    def is_ever_attacker(self, clients: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of `clients` attack in some round, bool [clients]."""
        return _is_among(clients, self.attackers)


def build_world(
    config: Config, communicator: Communicator, *, dataset: Dataset | None = None, module: torch.nn.Module | None = None
) -> World:
    """Collective. Return the world of a run; `dataset` and `module` replace what the configuration names.

    Raises:
        UserError: On every rank, where data cannot be read, or settings do not fit them.
    """
    run, tf32 = config.run, config.training.precision == "tf32"
    device = find_device(run.device, communicator, share=run.share_devices, tf32=tf32)
    feed, warnings = _share_feed(config, communicator, dataset, own_module=module is not None)
    return agree(communicator, lambda: _in_memory(lambda: _build(config, communicator, device, feed, module, warnings)))


def _share_feed(
    config: Config, communicator: Communicator, dataset: Dataset | None, *, own_module: bool
) -> tuple[Feed, tuple[str, ...]]:
    """Collective. Return the data divided into clients, and what to warn of (root)."""

    def make() -> Feed:
        return _in_memory(lambda: make_feed(config, settled(), standardise=config.data.standardise))

    def settled() -> Dataset:
        if dataset is None:
            return load_data(config, own_module=own_module)
        return settle_targets(config, dataset, own_module=own_module)

    # The caller's own arrays are in every rank's memory already.
    if dataset is not None or not config.run.share_data:
        return agree(communicator, make), ()
    feed, problem = share_on_node(communicator, make)
    problems = [text for text in communicator.gather_root(problem) if text]
    if not problems:
        return feed, ()
    return feed, (f"{len(problems)} of {communicator.size} ranks hold a copy of the data of their own: {problems[0]}",)


def make_feed(config: Config, dataset: Dataset, *, standardise: bool) -> Feed:
    """Return the data, divided into the clients that train and those that are held out.

    Raises:
        UserError: They cannot be divided as the configuration says.
    """
    tested, seed = config.evaluation, config.run.seed
    population, held_out = divide_off(
        config.partition.divide(dataset, seed),
        dataset,
        number=tested.held_out_clients,
        owners=tested.held_out_owners,
        seed=seed,
    )
    return Feed(dataset=dataset, population=population, standardise=standardise, held_out=held_out)


def _in_memory(make: Callable[[], T]) -> T:
    """Return what `make` returns; raise a UserError where it does not fit into memory."""
    try:
        return make()
    except MemoryError as error:
        fix = "choose smaller data or a smaller model, or start fewer ranks on this machine"
        raise UserError(one_line(f"out of memory while data and model were made ({error}): {fix}")) from None


def _build(
    config: Config,
    communicator: Communicator,
    device: torch.device,
    feed: Feed,
    module: torch.nn.Module | None,
    warnings: tuple[str, ...],
) -> World:
    torch.set_num_threads(config.run.threads)
    population = feed.population
    total, largest = population.total_and_largest()
    _check_fit(config, population, largest)
    _check_loss(config.training.loss, feed.dataset)
    samples = samples_of(feed)
    module = module or build_module(config.model, samples)
    model = make_model(config, samples, module)
    _check_scored_half(config, model)
    attackers = config.threat.choose(population.num_clients, config.run.seed)
    return World(
        config=config,
        population=population,
        feed=feed,
        model=model,
        executor=_make_executor(config, model, device, attackers, largest),
        communicator=communicator,
        device=device,
        attackers=attackers,
        mean_samples=total / population.num_clients,
        cuts=make_cuts(
            config,
            model,
            lambda cut: make_model(config, samples, module, cut=cut),
            lambda each: _count_operations(config, each),
        ),
        warnings=(*warnings, *filter(None, [note_on_targets(config, feed.dataset)])),
    )


def _check_scored_half(config: Config, model: SplitModel) -> None:
    """Refuse scores of a client half of which nothing is sent."""
    if config.score.half == "client" and not config.protocol.averaged_bytes(model):
        fix = f"under protocol {config.protocol.name!r} nothing of the client half is sent; use 'server' or 'both'"
        raise ConfigError("score.half", "client", fix)


def _make_executor(
    config: Config, model: SplitModel, device: torch.device, attackers: NDArray[np.int64], largest: int
) -> Executor | SharedTrainer:
    if config.protocol.shares_server:
        in_turn = config.protocol.in_turn
        return make_shared(model, config.training, device, in_turn=in_turn, most_samples=largest)
    alike = not config.protocol.personal_names(model.layout) and config.training.drift == "none"
    executor = make_executor(model, config.training, device, most_samples=largest, alike=alike)
    threat = config.threat
    if not threat.poisons_smashed:
        return executor

    def attacks(clients: NDArray[np.int64], round: int) -> NDArray[np.bool_]:
        return _is_among(clients, attackers) & (round >= threat.first_round)

    return PoisonedExecutor(executor, model, config.training, device, threat=threat, attacks=attacks)


def _is_among(clients: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    # Not np.isin, which sorts all attackers anew: there may be millions of them, and thousands of groups a round.
    places = np.searchsorted(ascending, clients)
    found: NDArray[np.bool_] = places < np.searchsorted(ascending, clients, side="right")
    return found


def _count_operations(config: Config, model: SplitModel) -> HalfOperations:
    if not config.clock.is_on:
        return HalfOperations(client=0, server=0)
    try:
        return count_halves(model)
    except ValueError as error:
        rule = config.clock.model_dump()["rule"]
        raise ConfigError("clock.rule", rule, f"{error}; use 'none', or another model") from None


def _check_loss(loss: LossName, dataset: Dataset) -> None:
    if loss == "auto" or (loss != "cross-entropy") == dataset.has_numbers:
        return
    fix = "numbers; use auto, squared, absolute or huber" if dataset.has_numbers else "classes; use auto"
    raise ConfigError("training.loss", loss, f"the targets of {dataset.name} are {fix}")


def _check_fit(config: Config, population: Population, largest: int) -> None:
    """Refuse settings that the population cannot meet; `largest` is the most training samples of a client."""
    count = population.num_clients
    participants = len(config.participation.draw(count, config.run.seed, 0))
    groups, evaluated, batch = config.groups.number, config.evaluation.clients, config.training.batch_size
    if groups > participants:
        fix = f"only {participants} clients take part in a round; use fewer groups or more clients"
        raise ConfigError("groups.number", groups, fix)
    if evaluated > count:
        raise ConfigError("evaluation.clients", evaluated, f"there are only {count} clients")
    if batch > largest:
        fix = f"the largest client has {largest} training samples; use at most that"
        raise ConfigError("training.batch_size", batch, fix)
