"""Everything that stays the same from round to round, made from the configuration.

Layer 4. A `World` is built once a run on every rank: the population and its data, the split model, the executor, the
attackers, the ranks. A user's own module or data take the place of the configured ones here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.config import Config
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.feed import Feed
from hpcfsl.data.population import Population
from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel, split
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.device import device_of_rank
from hpcfsl.training.executors import Executor, make_executor

_SLICE = 1_000_000


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
    """

    config: Config
    population: Population
    feed: Feed
    model: SplitModel
    executor: Executor
    communicator: Communicator
    device: torch.device
    attackers: NDArray[np.int64]
    mean_samples: float

    def is_attacker(self, clients: NDArray[np.int64], round: int) -> NDArray[np.bool_]:
        """Return which of `clients` attack in a round, bool [clients]."""
        active = round >= self.config.threat.first_round
        return np.isin(clients, self.attackers) & active


def build_world(
    config: Config, communicator: Communicator, *, dataset: Dataset | None = None, module: torch.nn.Module | None = None
) -> World:
    """Return the world of a run; `dataset` and `module` replace what the configuration names.

    Raises:
        UserError: Data that cannot be read, or settings that do not fit them.
    """
    torch.set_num_threads(config.run.threads)
    device = device_of_rank(config.run.device, communicator.local_rank)
    dataset = dataset or config.data.load(config.run.seed)
    population = config.partition.divide(dataset, config.run.seed)
    feed = Feed(dataset=dataset, population=population, standardise=config.data.standardise)
    module = module or config.model.build(feed.sample_shape, feed.num_classes)
    model = split(module, config.model.cut if config.protocol.cuts else "none", feed.sample_shape)
    _check_fit(config, population)
    return World(
        config=config,
        population=population,
        feed=feed,
        model=model,
        executor=make_executor(model, config.training, device),
        communicator=communicator,
        device=device,
        attackers=config.threat.choose(population.num_clients, config.run.seed),
        mean_samples=_mean_samples(population),
    )


def _check_fit(config: Config, population: Population) -> None:
    """Refuse settings that the population cannot meet."""
    participants = len(config.participation.draw(population.num_clients, config.run.seed, 0))
    if config.groups.number > participants:
        raise ConfigError("groups.number", config.groups.number, f"only {participants} clients take part in a round; use fewer groups or more clients")
    if config.evaluation.clients > population.num_clients:
        raise ConfigError("evaluation.clients", config.evaluation.clients, f"there are only {population.num_clients} clients")
    largest = max(int(population.train_counts(ids).max()) for ids in _client_slices(population))
    if config.training.batch_size > largest:
        raise ConfigError("training.batch_size", config.training.batch_size, f"the largest client has {largest} training samples; use at most that")


def _mean_samples(population: Population) -> float:
    total = sum(int(population.train_counts(ids).sum()) for ids in _client_slices(population))
    return total / population.num_clients


def _client_slices(population: Population) -> list[NDArray[np.int64]]:
    count = population.num_clients
    return [np.arange(first, min(first + _SLICE, count)) for first in range(0, count, _SLICE)]
