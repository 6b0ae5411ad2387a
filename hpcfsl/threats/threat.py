"""The seam for attacks: who attacks, what happens to their data, their smashed data and their uploads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.feed import Samples
from hpcfsl.data.participation import sample_ids
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose
from hpcfsl.settings import Registry, Settings

Targets = NDArray[np.int64] | NDArray[np.float32]
"""Classes or symbols, int64 [samples] or [samples, positions], or numbers, float32 [samples, outputs]."""


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """The training data of the attackers of a group, one after another: all that an attacker on data knows.

    Attributes:
        clients: Their ids, int64 [attackers].
        counts: Samples of each, int64 [attackers].
        inputs: As the model takes them: float32 numbers, or int64 symbols, [samples, ...].
        targets: Classes, symbols or numbers.
        num_classes: Number of classes; 0 where targets are numbers.
        vocabulary: Number of symbols of the inputs; 0 where they are numbers.
        seed: The run's seed.
        round: The round.
    """

    clients: NDArray[np.int64]
    counts: NDArray[np.int64]
    inputs: Samples
    targets: Targets
    num_classes: int
    vocabulary: int
    seed: int
    round: int

    @property
    def slices(self) -> list[slice]:
        """The rows of each attacker."""
        stops = np.cumsum(self.counts)
        return [slice(int(stop - count), int(stop)) for stop, count in zip(stops, self.counts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class View:
    """What an omniscient attacker sees of its group when it makes its upload.

    Attributes:
        updates: All uploads of the group, honest training everywhere, float32 [clients, params].
        attackers: Which rows are attackers, bool [clients].
        seed: The run's seed.
        round: The round.
        clients: Client ids, int64 [clients].
    """

    updates: torch.Tensor
    attackers: torch.Tensor
    seed: int
    round: int
    clients: NDArray[np.int64]

    @property
    def honest(self) -> torch.Tensor:
        """The honest clients' uploads, or everybody's where the whole group attacks, float32 [rows, params]."""
        return self.updates if bool(self.attackers.all()) else self.updates[~self.attackers]

    @property
    def own(self) -> torch.Tensor:
        """What the attackers would have uploaded honestly, float32 [attackers, params]."""
        return self.updates[self.attackers]


class Threat(Settings):
    """An attack (section `[threat]`), on data (`poison`), smashed data (`poison_smashed`) or uploads (`forge`)."""

    attack: str
    clients: int = Field(0, ge=0)
    """How many clients of the population attack; which ones is drawn once, keyed by the seed."""
    first_round: int = Field(0, ge=0)
    """The attackers behave until this round."""

    def choose(self, num_clients: int, seed: int) -> NDArray[np.int64]:
        """Return the attackers' ids, ascending.

        Raises:
            ConfigError: More attackers than clients.
        """
        if self.clients > num_clients:
            raise ConfigError("threat.clients", self.clients, f"there are only {num_clients} clients")
        return sample_ids(num_clients, self.clients, seed, 0, Purpose.THREAT)

    @property
    def poisons_smashed(self) -> bool:
        """Whether attackers change their smashed data, which needs a protocol with a cut."""
        return False

    def poison(self, data: OwnData) -> tuple[Samples, Targets]:
        """Return the inputs and targets that the attackers train on, shaped as they are."""
        return data.inputs, data.targets

    def poison_smashed(
        self, smashed: torch.Tensor, *, seed: int, round: int, clients: NDArray[np.int64], step: int
    ) -> torch.Tensor:
        """Return what attackers send in the place of their smashed data.

        Randomness is keyed by client and step, and a client's numbers are laid out sample after sample, so a client has
        the same bits alone, beside others, and in a batch that is padded at its end.

        Args:
            smashed: Attackers' smashed data of one local step, float [attackers, batch, *smashed_shape]; never changed.
            seed: The run's seed.
            round: The round.
            clients: The attackers' ids, int64 [attackers].
            step: Number of the local step in the round, from 0.
        """
        return smashed

    def forge(self, view: View) -> torch.Tensor:
        """Return the attackers' uploads, float32 [attackers, params]."""
        return view.own


threats: Registry[Threat] = Registry("threat", key="attack", default="none")
