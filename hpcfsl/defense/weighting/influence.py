"""Influence: how much a client could move its group, the factor beside its credit score (P4; section `[influence]`)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.scoring.score import over_median
from hpcfsl.settings import Registry, Settings


class Influence(Settings):
    """A rule for `influence_i`."""

    rule: str

    @property
    def needs_updates(self) -> bool:
        """Whether `measure` looks at the updates; rows of them are not gathered for nothing."""
        return True

    def measure(
        self, updates: torch.Tensor, *, norms: NDArray[np.float64], samples: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the influence of each client, positive, float64 [clients].

        Args:
            updates: Finite first model updates, float32 [clients, params]; no rows unless `needs_updates`.
            norms: Their norms before any clip by the aggregator, float64 [clients].
            samples: Training samples, int64 [clients].
        """
        raise AssertionError("every influence defines measure")


influences: Registry[Influence] = Registry("influence", default="norm")


@influences.register
class EqualInfluence(Influence):
    """One for everybody: scores alone decide."""

    rule: Literal["one"] = "one"

    @property
    def needs_updates(self) -> bool:
        """False."""
        return False

    def measure(
        self, updates: torch.Tensor, *, norms: NDArray[np.float64], samples: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones(len(samples))


@influences.register
class SampleInfluence(Influence):
    """Training samples. Beware: in the `model` reading this cancels the data share exactly."""

    rule: Literal["samples"] = "samples"

    @property
    def needs_updates(self) -> bool:
        """False."""
        return False

    def measure(
        self, updates: torch.Tensor, *, norms: NDArray[np.float64], samples: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the sample counts."""
        return samples.astype(np.float64)


@influences.register
class NormInfluence(Influence):
    """max(1, norm over the median norm): takes the gain out of scaling, without rewarding small updates."""

    rule: Literal["norm"] = "norm"

    @property
    def needs_updates(self) -> bool:
        """False."""
        return False

    def measure(
        self, updates: torch.Tensor, *, norms: NDArray[np.float64], samples: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the norm ratios, at least 1."""
        return np.maximum(over_median(norms), 1.0) if len(norms) else np.ones(0)


@influences.register
class DisplacementInfluence(Influence):
    """How far the group's sample-weighted mean moves when the client is left out, over the group's median."""

    rule: Literal["displacement"] = "displacement"

    def measure(
        self, updates: torch.Tensor, *, norms: NDArray[np.float64], samples: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the displacements, at least a millionth of their median."""
        if len(samples) < 2:
            return np.ones(len(samples))
        share = samples / samples.sum()
        mean = torch.from_numpy(share).to(updates.device) @ updates.double()
        distances = torch.stack([torch.linalg.vector_norm(row.double() - mean) for row in updates]).cpu().numpy()
        return np.maximum(over_median(distances * share / (1 - share)), 1e-6)
