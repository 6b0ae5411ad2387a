"""Data pollution of the inputs: attackers train on samples that say nothing, with the targets as they were.

Numbers (pictures, sounds, series, tables) get Gaussian noise, a data poisoning `x + delta` in the words of HealSplit
(Xie and Lyu, AAAI 2026); symbols are replaced by random ones. An attacker's data are polluted once, not anew each
round. Choose it where targets cannot be flipped to any effect, or to see if a defence takes poor data for an attack.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.feed import Samples, mean_and_deviation
from hpcfsl.seeding import Purpose, random_normal, random_uniform
from hpcfsl.threats.threat import OwnData, Targets, Threat, threats

# Lanes of the stream of one client.
_CHOICE, _CONTENT = 0, 1


@threats.register
class FeatureNoise(Threat):
    """Train on inputs drowned in noise, or on random symbols."""

    attack: Literal["feature-noise"] = "feature-noise"
    share: float = Field(1.0, gt=0, le=1)
    """Share of the numbers or symbols of each sample that are changed."""
    scale: float = Field(3.0, gt=0, le=1e6)
    """Standard deviation of the noise, in standard deviations of the attacker's own inputs: a feature at a time, of
    images a channel at a time. Symbols have none."""

    def poison(self, data: OwnData) -> tuple[Samples, Targets]:
        """Return the polluted inputs and the targets as they are."""
        polluted = data.inputs.copy()
        for client, rows in zip(data.clients, data.slices, strict=True):
            chosen = self._choose(data.inputs[rows].shape, data.seed, int(client))
            content = (self._symbols if data.vocabulary else self._noisy)(data, rows, int(client))
            polluted[rows] = np.where(chosen, content, data.inputs[rows])
        return polluted, data.targets

    def _choose(self, shape: tuple[int, ...], seed: int, client: int) -> NDArray[np.bool_]:
        uniform = random_uniform(
            seed, Purpose.POLLUTION, round=0, entity=client, count=int(np.prod(shape)), lane=_CHOICE
        )
        return np.asarray(uniform.reshape(shape) <= self.share)

    def _noisy(self, data: OwnData, rows: slice, client: int) -> Samples:
        own = data.inputs[rows]
        deviation = mean_and_deviation(own, np.arange(len(own)))[1]
        noise = random_normal(
            data.seed, Purpose.POLLUTION, round=0, entity=client, count=own.size, lane=_CONTENT
        ).reshape(own.shape)
        return (own + self.scale * deviation * noise).astype(np.float32)

    def _symbols(self, data: OwnData, rows: slice, client: int) -> Samples:
        own = data.inputs[rows]
        uniform = random_uniform(data.seed, Purpose.POLLUTION, round=0, entity=client, count=own.size, lane=_CONTENT)
        # float64 holds the largest uniform number as 1.0 itself, which would be one symbol too many.
        symbols = np.minimum((uniform * data.vocabulary).astype(np.int64), data.vocabulary - 1)
        return symbols.reshape(own.shape)
