"""Perturbation of first model updates (P7, section `[perturbation]`): nothing, or clipping and Gaussian noise.

Choose `none` to study the defence alone and `gaussian` for client-level noise as in Abadi et al. (CCS 2016), applied by
the client. The cosine of the true and the perturbed update is about 1 / sqrt(1 + noise^2 d) for d parameters, so keep
`noise_multiplier * sqrt(d)` below .3 to .5 where scores have to tell honest clients from attackers.

An attacker ignores honest clipping, so the aggregator may clip again (`aggregator_clips`); scores always see the norm
from before that clip, because a clip to a fixed norm would hide scaling attacks from them.
"""

from __future__ import annotations

from math import sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.privacy.noise import add_normal
from hpcfsl.seeding import Purpose
from hpcfsl.settings import Registry, Settings

# A clipped, noisy honest update is longer than the clip; the aggregator's bound leaves room for the noise it expects.
_NOISE_ROOM = 1.1


class Perturbation(Settings):
    """A client's change to its own update, and what the aggregator does about clients that skip it."""

    rule: str

    def perturb(self, updates: torch.Tensor, *, clients: NDArray[np.int64], seed: int, round: int) -> torch.Tensor:
        """Return the perturbed updates of honest clients, float32 [clients, params]."""
        raise AssertionError("every perturbation defines perturb")

    def bound(self, num_params: int) -> float | None:
        """Return the norm to which the aggregator clips every upload; None where it does not."""
        raise AssertionError("every perturbation defines bound")


perturbations: Registry[Perturbation] = Registry("perturbation", default="none")


@perturbations.register
class NoPerturbation(Perturbation):
    """Updates leave the client as they are."""

    rule: Literal["none"] = "none"

    def perturb(self, updates: torch.Tensor, *, clients: NDArray[np.int64], seed: int, round: int) -> torch.Tensor:
        """Return `updates`."""
        return updates

    def bound(self, num_params: int) -> float | None:
        """Return None: there is no norm to hold clients to."""
        return None


@perturbations.register
class GaussianPerturbation(Perturbation):
    """Clip each update to a norm, then add keyed Gaussian noise of standard deviation `noise_multiplier * clip`."""

    rule: Literal["gaussian"] = "gaussian"
    clip: float = Field(1.0, gt=0, le=1e6)
    """Largest Euclidean norm of an update before the noise."""
    noise_multiplier: float = Field(0.001, ge=0, le=100)
    """Standard deviation of the noise in each coordinate, in units of `clip`."""
    aggregator_clips: bool = True
    """Whether the aggregator clips every upload again, so that clients which skipped the clip gain nothing."""

    def perturb(self, updates: torch.Tensor, *, clients: NDArray[np.int64], seed: int, round: int) -> torch.Tensor:
        """Return the clipped, noisy updates; the noise is keyed by (seed, round, client)."""
        clipped = clip_norms(updates, self.clip)
        if self.noise_multiplier == 0:
            return clipped
        deviation = self.noise_multiplier * self.clip
        for row, client in enumerate(clients):
            add_normal(
                clipped[row], deviation, seed=seed, purpose=Purpose.PERTURBATION, round=round, entity=int(client)
            )
        return clipped

    def bound(self, num_params: int) -> float | None:
        """Return the norm that an honest, clipped and noisy update has, with a tenth of room."""
        if not self.aggregator_clips:
            return None
        return self.clip * max(1.0, _NOISE_ROOM * sqrt(1 + self.noise_multiplier**2 * num_params))


def clip_norms(updates: torch.Tensor, bound: float) -> torch.Tensor:
    """Return a copy whose rows have Euclidean norm at most `bound`; rows with NaN or infinity stay as they are."""
    norms = row_norms(updates)
    factor = torch.where(torch.isfinite(norms) & (norms > bound), bound / norms, torch.ones_like(norms))
    return updates * factor.to(updates.dtype)[:, None]


def row_norms(updates: torch.Tensor) -> torch.Tensor:
    """Return Euclidean norms in float64, [clients]: 1e30 squared overflows float32."""
    return torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in updates])
