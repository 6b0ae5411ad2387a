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

from hpcfsl.native import columns
from hpcfsl.privacy.noise import add_normal_rows
from hpcfsl.seeding import Purpose, key_of
from hpcfsl.settings import Registry, Settings

# A clipped, noisy honest update is longer than the clip; the aggregator's bound leaves room for the noise it expects.
_NOISE_ROOM = 1.1


class Perturbation(Settings):
    """A client's change to its own update, and what the aggregator does about clients that skip it."""

    rule: str

    def perturb(self, updates: torch.Tensor, *, clients: NDArray[np.int64], seed: int, round: int) -> torch.Tensor:
        """Return the perturbed updates of honest clients, float32 [clients, params]."""
        raise AssertionError("every perturbation defines perturb")

    def perturb_in_place(
        self,
        updates: torch.Tensor,
        norms: NDArray[np.float64],
        *,
        honest: NDArray[np.bool_],
        clients: NDArray[np.int64],
        seed: int,
        round: int,
    ) -> NDArray[np.float64]:
        """Perturb the rows of a group's honest clients in place; return the norms that all rows then have, [clients].

        Args:
            updates: First model updates, float32 [clients, params].
            norms: Their norms, float64 [clients].
            honest: Whose rows to perturb, bool [clients].
            clients: Client ids, int64 [clients].
            seed: The run's seed.
            round: The round.
        """
        if honest.any():
            chosen = torch.from_numpy(honest)
            updates[chosen] = self.perturb(updates[chosen], clients=clients[honest], seed=seed, round=round)
        return row_norms(updates).cpu().numpy()

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

    def perturb_in_place(
        self,
        updates: torch.Tensor,
        norms: NDArray[np.float64],
        *,
        honest: NDArray[np.bool_],
        clients: NDArray[np.int64],
        seed: int,
        round: int,
    ) -> NDArray[np.float64]:
        """Change nothing; return `norms`."""
        return norms

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
        perturbed, everybody = updates.clone(), np.ones(len(updates), np.bool_)
        norms = row_norms(updates).cpu().numpy()
        self.perturb_in_place(perturbed, norms, honest=everybody, clients=clients, seed=seed, round=round)
        return perturbed

    def perturb_in_place(
        self,
        updates: torch.Tensor,
        norms: NDArray[np.float64],
        *,
        honest: NDArray[np.bool_],
        clients: NDArray[np.int64],
        seed: int,
        round: int,
    ) -> NDArray[np.float64]:
        """Clip and add noise in one pass over each honest client's row."""
        factors = np.where(honest, clip_factors(norms, self.clip), np.float32(1.0))
        deviation, rows = self.noise_multiplier * self.clip, columns.rows_of(updates)
        if rows is not None:
            key, entities = key_of(seed, Purpose.PERTURBATION), np.where(honest, clients, -1)
            return columns.perturb_rows(rows, norms, factors, deviation, key=key, round=round, entities=entities)
        updates.mul_(torch.from_numpy(factors).to(updates.device)[:, None])
        if deviation:
            self._add_noise(updates, honest, clients, seed, round)
        return row_norms(updates).cpu().numpy()

    def _add_noise(
        self, updates: torch.Tensor, honest: NDArray[np.bool_], clients: NDArray[np.int64], seed: int, round: int
    ) -> None:
        chosen = updates if honest.all() else updates[torch.from_numpy(honest)]
        deviation, entities = self.noise_multiplier * self.clip, clients[honest]
        add_normal_rows(chosen, deviation, seed=seed, purpose=Purpose.PERTURBATION, round=round, entities=entities)
        if chosen is not updates:
            updates[torch.from_numpy(honest)] = chosen

    def bound(self, num_params: int) -> float | None:
        """Return the norm that an honest, clipped and noisy update has, with a tenth of room."""
        if not self.aggregator_clips:
            return None
        return self.clip * max(1.0, _NOISE_ROOM * sqrt(1 + self.noise_multiplier**2 * num_params))


def clip_factors(norms: NDArray[np.float64], bound: float) -> NDArray[np.float32]:
    """Return what brings rows of these norms down to `bound`, float32 [clients]; 1 for short and non-finite rows."""
    longer = np.isfinite(norms) & (norms > bound)
    return np.divide(bound, norms, out=np.ones_like(norms), where=longer).astype(np.float32)


def clip_in_place(updates: torch.Tensor, norms: NDArray[np.float64], bound: float) -> NDArray[np.float64]:
    """Shorten the rows that are longer than `bound`, in place; return the norms that all rows then have, [clients].

    Args:
        updates: float32 [clients, params].
        norms: Their norms, float64 [clients].
        bound: Largest norm; rows with NaN or infinity stay as they are.
    """
    factors, lengths = clip_factors(norms, bound), norms.copy()
    for row in np.flatnonzero(factors != 1):
        updates[row] *= float(factors[row])
        lengths[row] = float(row_norms(updates[row : row + 1]))
    return lengths


def row_norms(updates: torch.Tensor) -> torch.Tensor:
    """Return Euclidean norms in float64, [clients]: 1e30 squared overflows float32."""
    rows = columns.rows_of(updates)
    if rows is not None:
        return torch.from_numpy(columns.row_norms(rows))
    return torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in updates])
