"""The seam for attacks: who attacks, what happens to their data, what happens to their uploads."""

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
    """An attack (section `[threat]`). Data attacks change `poison`, update attacks change `forge`."""

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

    def poison(
        self, inputs: Samples, targets: NDArray[np.int64], *, num_classes: int
    ) -> tuple[Samples, NDArray[np.int64]]:
        """Return an attacker's training data: inputs [samples, ...], targets [samples] or [samples, positions]."""
        return inputs, targets

    def forge(self, view: View) -> torch.Tensor:
        """Return the attackers' uploads, float32 [attackers, params]."""
        return view.own


threats: Registry[Threat] = Registry("threat", key="attack", default="none")
