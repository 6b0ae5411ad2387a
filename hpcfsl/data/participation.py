"""Which clients take part in a round.

Layer 1. `participations` is the registry; its three rules are a few lines each and share one draw, so they live here
together. Every draw is keyed by (seed, round): the same clients on any number of ranks and after any restart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_uniform
from hpcfsl.settings import Registry, Settings


class Participation(Settings, ABC):
    """Settings of one way to choose clients; a subclass adds `rule: Literal["its-name"] = "its-name"`."""

    @abstractmethod
    def draw(self, num_clients: int, seed: int, round: int) -> NDArray[np.int64]:
        """Return the ids of the round's clients, ascending, int64 [participants], at least one.

        Args:
            num_clients: Size of the population.
            seed: The run's seed.
            round: The round.

        Raises:
            ConfigError: The population has fewer clients than asked for.
        """


participations: Registry[Participation] = Registry("participation", default="all")


@participations.register
class All(Participation):
    """Every client takes part in every round."""

    rule: Literal["all"] = "all"
    """Every client takes part in every round."""

    def draw(self, num_clients: int, seed: int, round: int) -> NDArray[np.int64]:
        """Return all ids."""
        return np.arange(num_clients, dtype=np.int64)


@participations.register
class Number(Participation):
    """The same number of clients each round, every set of that size equally likely."""

    rule: Literal["number"] = "number"
    """A fixed number of clients, drawn anew each round without replacement."""

    clients: int = Field(10, ge=1, le=2**31 - 1)
    """Clients that take part in a round."""

    def draw(self, num_clients: int, seed: int, round: int) -> NDArray[np.int64]:
        """Return `clients` ids; see `Participation.draw`."""
        if self.clients > num_clients:
            fix = f"the population has {num_clients} clients; lower it, or use participation.rule = 'all'"
            raise ConfigError("participation.clients", self.clients, fix)
        return sample_ids(num_clients, self.clients, seed, round)


@participations.register
class Fraction(Participation):
    """The same share of the clients each round."""

    rule: Literal["fraction"] = "fraction"
    """A fixed share of the clients, drawn anew each round without replacement."""

    fraction: float = Field(0.1, gt=0.0, le=1.0)
    """Share of the clients that takes part in a round, to the nearest whole client, at least one."""

    def draw(self, num_clients: int, seed: int, round: int) -> NDArray[np.int64]:
        """Return the share's ids; see `Participation.draw`."""
        count = max(1, int(self.fraction * num_clients + 0.5))
        return sample_ids(num_clients, count, seed, round)


def sample_ids(
    num_clients: int, count: int, seed: int, round: int, purpose: Purpose = Purpose.PARTICIPATION
) -> NDArray[np.int64]:
    """Return `count` different ids below `num_clients`, ascending, int64 [count]; every set is equally likely.

    Costs time and memory in proportion to `count`, not to the population.
    """
    if 2 * count <= num_clients:
        return _first_distinct(num_clients, count, seed, round, purpose)
    absent = _first_distinct(num_clients, num_clients - count, seed, round, purpose)
    return np.delete(np.arange(num_clients, dtype=np.int64), absent)


def _first_distinct(num_clients: int, count: int, seed: int, round: int, purpose: Purpose) -> NDArray[np.int64]:
    # Draw with replacement and skip what was drawn before. At most half of the population is wanted, so the number of
    # draws needed stays close to 1.4 times `count`. More draws only extend the stream: the counter starts it anew.
    num_draws = count + count // 2 + 16
    while True:
        uniform = random_uniform(seed, purpose, round=round, entity=0, count=num_draws)
        # float64 holds the largest uniform number as 1.0 itself, which would be one id too many.
        ids = np.minimum((uniform * num_clients).astype(np.int64), num_clients - 1)
        _, first_draws = np.unique(ids, return_index=True)
        if len(first_draws) >= count:
            return np.sort(ids[np.sort(first_draws)[:count]])
        num_draws *= 2
