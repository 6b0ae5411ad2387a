"""Generated sequences of symbols: a Markov chain in which each symbol has a few successors, all equally likely.

Shannon, "A mathematical theory of communication" (1948), section 2, made text that way. The task is to predict the next
symbol at each position. All symbols are equally frequent, so whoever does not look at the symbol before has a
perplexity (exp of the loss) of `symbols`, and nobody has one below `branches`. Choose it for benchmarks of sequence
models and for tests. The numbers come from numpy's `Generator(Philox)`, as those of `synthetic`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.data import arena
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources.base import Source, sources
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_key

_CHAIN, _TRAIN, _TEST = 0, 1, 2


@sources.register
class SyntheticText(Source):
    """Windows of one Markov chain over symbols; the classes of a window are its symbols, one position on."""

    source: Literal["synthetic-text"] = "synthetic-text"
    """Generated text: sequences of a Markov chain, to predict the next symbol of."""

    standardise: Literal[False] = False
    """Symbols cannot be standardised."""

    symbols: int = Field(90, ge=2, le=65_536)
    """Number of symbols, which are the classes too."""

    branches: int = Field(4, ge=1, le=65_536)
    """Successors of each symbol; at most `symbols`."""

    positions: int = Field(80, ge=1, le=1_000_000)
    """Symbols in a sample."""

    samples: int = Field(2000, ge=1, le=2**31 - 1)
    """Training samples."""

    test_samples: int = Field(500, ge=0, le=2**31 - 1)
    """Samples of the test set; 0 for none, so that the partition holds out some."""

    owners: int = Field(10, ge=1)
    """Natural clients, which hold equal runs of the samples; at most one for each sample."""

    def load(self, seed: int) -> Dataset:
        """Return the generated text, uint16 [samples, positions].

        Raises:
            ConfigError: More branches than symbols, or more than fits into this machine's memory.
        """
        self._check()
        owners = min(self.owners, self.samples)
        train, test = self._generate(seed, _TRAIN, self.samples), self._generate(seed, _TEST, self.test_samples)
        return Dataset(
            name=self.source,
            inputs=train[:, :-1],
            targets=train[:, 1:],
            owners=np.arange(self.samples, dtype=np.int64) * owners // self.samples,
            num_classes=self.symbols,
            test_inputs=test[:, :-1] if self.test_samples else None,
            test_targets=test[:, 1:] if self.test_samples else None,
            vocabulary=self.symbols,
        )

    def _check(self) -> None:
        if self.branches > self.symbols:
            raise ConfigError(
                "data.branches", self.branches, f"there are only {self.symbols} symbols; use at most that"
            )
        size, (room, whose) = 2 * (self.samples + self.test_samples) * (self.positions + 1), arena.room()
        if size > room:
            fix = f"with data.positions they take {size / 1e9:.0f} GB, {whose} {room / 1e9:.0f}; make fewer"
            raise ConfigError("data.samples", self.samples, fix)

    def _generate(self, seed: int, stream: int, count: int) -> NDArray[Any]:
        successors, generator = self._successors(seed), _generator(seed, stream)
        text = arena.empty((count, self.positions + 1), np.uint16)
        text[:, 0] = generator.integers(self.symbols, size=count)
        for place in range(self.positions):
            text[:, place + 1] = successors[text[:, place], generator.integers(self.branches, size=count)]
        return text

    def _successors(self, seed: int) -> NDArray[np.uint16]:
        """Return the successors of each symbol, [symbols, branches]; each symbol follows equally many."""
        generator = _generator(seed, _CHAIN)
        order, steps = generator.permutation(self.symbols), generator.permutation(self.symbols)[: self.branches]
        places = (np.arange(self.symbols)[:, None] + steps) % self.symbols
        successors: NDArray[np.uint16] = order.astype(np.uint16)[places]
        return successors


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=random_key(seed, Purpose.SYNTHETIC, entity=stream)))
