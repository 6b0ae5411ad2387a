"""Adam and Yogi over rounds: every coordinate's step is divided by the root of its running mean square.

FedAdam and FedYogi of Reddi et al., "Adaptive federated optimization" (ICLR 2021), algorithm 2: no bias correction, and
the mean square starts at `adaptivity` squared. Yogi lets the mean square fall slowly only, so that rounds of
small updates do not undo it (Zaheer et al., "Adaptive methods for nonconvex optimization", NeurIPS 2018).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hpcfsl.aggregate.server.server_optimizer import ServerOptimizer, server_optimizers

if TYPE_CHECKING:
    from torch import Tensor


class Adaptive(ServerOptimizer):
    """A running mean of updates over the root of a running mean square."""

    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of updates."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of the mean square of updates."""
    adaptivity: float = Field(1e-3, gt=0, le=1e3)
    """Added to the root (the paper's tau): updates much smaller than this are not scaled up to full steps."""
    bias_correction: bool = False
    """Divide both means by what is missing of their weights, and start both at 0, as Kingma and Ba (ICLR 2015) do."""

    def first_moments(self) -> dict[str, float]:
        """Return the mean, and the mean square."""
        return {"mean": 0.0, "square": 0.0 if self.bias_correction else self.adaptivity**2}

    def direction(self, update: Tensor, moments: dict[str, Tensor], steps: int) -> Tensor:
        """Return the mean over the root of the mean square plus `adaptivity`."""
        mean, square = moments["mean"], moments["square"]
        mean.mul_(self.beta1).add_(update * (1 - self.beta1))
        self.move_square(square, update * update)
        if self.bias_correction:
            mean = mean / (1 - self.beta1 ** (steps + 1))
            square = square / (1 - self.beta2 ** (steps + 1))
        return mean / (square.sqrt() + self.adaptivity)

    def move_square(self, square: Tensor, new: Tensor) -> None:
        """Take this round's squares into the running mean square, in place, float64 [params] both."""
        raise AssertionError("every adaptive rule moves its mean square")


@server_optimizers.register
class Adam(Adaptive):
    """FedAdam: steps of about the server's learning rate in every coordinate."""

    rule: Literal["adam"] = "adam"

    def move_square(self, square: Tensor, new: Tensor) -> None:
        """Decay the mean square, and add the rest of the new squares."""
        square.mul_(self.beta2).add_(new * (1 - self.beta2))


@server_optimizers.register
class Yogi(Adaptive):
    """FedYogi: like `adam`, but the mean square falls by a share of the new squares only."""

    rule: Literal["yogi"] = "yogi"

    def move_square(self, square: Tensor, new: Tensor) -> None:
        """Move the mean square towards the new squares, by a share of these."""
        square.sub_(new * (square - new).sign() * (1 - self.beta2))
