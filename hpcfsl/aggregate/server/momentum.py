"""Heavy-ball momentum over rounds.

FedAvgM of Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for federated visual
classification" (arXiv:1909.06335, 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpcfsl.aggregate.server.server_optimizer import ServerOptimizer, server_optimizers

if TYPE_CHECKING:
    from torch import Tensor


@server_optimizers.register
class Momentum(ServerOptimizer):
    """Add what is left of all target updates so far: each counts `momentum` times as much as the one after it."""

    rule: Literal["momentum"] = "momentum"
    momentum: float = Field(0.9, ge=0, lt=1)
    """What is left of the sum after a round; steps grow to 1 / (1 - momentum) times the update where all agree."""

    def first_moments(self) -> dict[str, float]:
        """Return the running sum."""
        return {"sum": 0.0}

    def direction(self, update: Tensor, moments: dict[str, Tensor], steps: int) -> Tensor:
        """Return `momentum * sum + update`, the new sum."""
        return moments["sum"].mul_(self.momentum).add_(update)
