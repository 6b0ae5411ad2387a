"""Generated data: one Gaussian cloud a class, of any shape and size.

It needs no file and depends on the settings and the seed alone. Choose it for benchmarks, where only shapes and counts
matter, and for tests; accuracy on it says nothing about real data. The numbers come from numpy's `Generator(Philox)`,
which makes hundreds of millions in seconds; numpy may change that stream between its releases (NEP 19).
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_key

_CENTRES, _TRAIN, _TEST = 0, 1, 2
_PIECE_ROWS = 4096


@sources.register
class Synthetic(Source):
    """Gaussian clouds around one random centre a class."""

    source: Literal["synthetic"] = "synthetic"
    """Generated Gaussian clouds, one a class."""

    shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field((1, 8, 8), min_length=1, max_length=4)
    """Shape of one sample; [channels, height, width] for images."""

    classes: int = Field(10, ge=2, le=100_000)
    """Number of classes; sample i is of class i modulo this."""

    samples: int = Field(2000, ge=1, le=2**31 - 1)
    """Training samples."""

    test_samples: int = Field(500, ge=0, le=2**31 - 1)
    """Samples of the test set; 0 for none, so that the partition holds out some."""

    owners: int = Field(10, ge=1)
    """Natural clients, which hold equal runs of the samples; at most one for each sample."""

    noise: float = Field(1.0, ge=0.0, le=1e3)
    """Standard deviation of a cloud, where centres have 1; small clouds are easy to tell apart."""

    def load(self, seed: int) -> Dataset:
        """Return the generated data, float32 [samples, *shape].

        Raises:
            ConfigError: They would not fit into this machine's memory.
        """
        size, (room, whose) = 4 * (self.samples + self.test_samples) * prod(self.shape), arena.room()
        if size > room:
            fix = f"with data.shape they take {size / 1e9:.0f} GB and {whose} {room / 1e9:.0f}; make fewer"
            raise ConfigError("data.samples", self.samples, fix)
        owners = min(self.owners, self.samples)
        inputs, targets = self._generate(seed, _TRAIN, self.samples)
        test_inputs, test_targets = self._generate(seed, _TEST, self.test_samples)
        return Dataset(
            name=self.source,
            inputs=inputs,
            targets=targets,
            owners=np.arange(self.samples, dtype=np.int64) * owners // self.samples,
            num_classes=self.classes,
            test_inputs=test_inputs if self.test_samples else None,
            test_targets=test_targets if self.test_samples else None,
        )

    def _generate(self, seed: int, stream: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        targets = np.arange(count, dtype=np.int64) % self.classes
        inputs = _normal(seed, stream, (count, *self.shape))
        inputs *= np.float32(self.noise)
        centres = _normal(seed, _CENTRES, (self.classes, *self.shape))
        for first in range(0, count, _PIECE_ROWS):
            rows = slice(first, first + _PIECE_ROWS)
            inputs[rows] += centres[targets[rows]]
        return inputs, targets


def _normal(seed: int, stream: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    generator = np.random.Generator(np.random.Philox(key=random_key(seed, Purpose.SYNTHETIC, entity=stream)))
    numbers = arena.empty(shape, np.float32)
    generator.standard_normal(out=numbers, dtype=np.float32)
    return numbers
