"""Generated series: each client's columns swing with a season of its own, under a slow wave, with noise.

It needs no file and depends on the settings and the seed alone. Step t of a column is a season (a sine and its second
harmonic, amplitude and phase those of the client and the column), plus a wave ten times as long, plus noise. Periods
differ between clients by up to `difference`, so clients differ as loads of houses do. Choose it for benchmarks and
tests of forecasts; persistence, which repeats the last value, is easy to beat where `noise` is small.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import sources
from hpcfsl.data.sources.windows import Run, Windowed
from hpcfsl.errors import ConfigError
from hpcfsl.provenance import memory_bytes
from hpcfsl.seeding import Purpose, random_key

_SLOWER = 10.0


@sources.register
class SyntheticSeries(Windowed):
    """Windows of seasonal series, one series a client."""

    source: Literal["synthetic-series"] = "synthetic-series"
    """Generated seasonal series, one a client, to forecast."""

    window: int = Field(48, ge=1, le=1_000_000)
    """Steps of the past in a sample."""

    horizon: int = Field(12, ge=1, le=1_000_000)
    """Steps to forecast, of all columns."""

    owners: int = Field(10, ge=1, le=1_000_000)
    """Natural clients, each with a series."""

    columns: int = Field(2, ge=1, le=10_000)
    """Numbers a step."""

    steps: int = Field(400, ge=2, le=100_000_000)
    """Length of a series."""

    period: float = Field(24.0, ge=2.0, le=1e6)
    """Steps in a season, the mean over clients."""

    difference: float = Field(0.25, ge=0.0, lt=1.0)
    """By which share of `period` a client's season differs from it at most."""

    noise: float = Field(0.1, ge=0.0, le=1e3)
    """Standard deviation of the noise of an average client, where seasons have an amplitude of about 1; a client's is
    between half and one and a half times that."""

    def load(self, seed: int) -> Dataset:
        """Return windows, float32 [n, window, columns], with forecasts [n, horizon * columns].

        Raises:
            ConfigError: They would not fit into this machine's memory, or no window fits into a series.
        """
        size, memory = 8 * self.owners * self.steps * self.columns, memory_bytes()
        if size > memory:
            fix = f"all series take {size / 1e9:.0f} GB and this machine has {memory / 1e9:.0f}; make them shorter"
            raise ConfigError("data.steps", self.steps, fix)
        runs = [Run(owner=f"{owner:06d}", values=self._generate(seed, owner)) for owner in range(self.owners)]
        every = list(range(self.columns))
        return self.cut(self.source, runs, known=every, ahead=every, horizon=self.horizon)

    def _generate(self, seed: int, owner: int) -> NDArray[np.float64]:
        """Return one client's series, [steps, columns]."""
        generator = np.random.Generator(np.random.Philox(key=random_key(seed, Purpose.SYNTHETIC, entity=owner)))
        period = self.period * (1.0 + self.difference * generator.uniform(-1.0, 1.0))
        noise = self.noise * generator.uniform(0.5, 1.5)
        amplitudes = generator.uniform(0.5, 1.5, (3, self.columns)) * np.array([[1.0], [0.3], [0.5]])
        phases = generator.uniform(0.0, 2.0 * np.pi, (3, self.columns))
        turns = 2.0 * np.pi * np.arange(self.steps)[:, None, None] / (period * np.array([[1.0], [0.5], [_SLOWER]]))
        values: NDArray[np.float64] = (amplitudes * np.sin(turns + phases)).sum(axis=1)
        return values + noise * generator.standard_normal(values.shape)
