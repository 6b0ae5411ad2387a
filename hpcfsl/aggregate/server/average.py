"""No optimiser: the model moves by the target update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hpcfsl.aggregate.server.server_optimizer import ServerOptimizer, server_optimizers

if TYPE_CHECKING:
    from torch import Tensor


@server_optimizers.register
class Average(ServerOptimizer):
    """Add the target update itself: federated averaging where the server's learning rate is 1."""

    rule: Literal["average"] = "average"

    def direction(self, update: Tensor, moments: dict[str, Tensor], steps: int) -> Tensor:
        """Return the update."""
        return update
