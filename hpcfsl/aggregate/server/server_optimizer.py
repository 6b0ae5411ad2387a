"""The seam for server optimisers: the target update is taken for minus a gradient of the global model.

The view of Reddi et al., "Adaptive federated optimization" (ICLR 2021), algorithm 2: clients' training and all of the
method's defence make a pseudo-gradient, and any optimiser may step along it. Choose `average` unless clients are few a
round or differ much; then `momentum` smooths the rounds, and `adam` or `yogi` give rare coordinates larger steps. With
these two `training.server_learning_rate` is the size of the step itself, so start at 0.01 to 0.1 and not at 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcfsl.settings import Registry, Settings

if TYPE_CHECKING:
    from torch import Tensor


class ServerOptimizer(Settings):
    """A server optimiser. Subclasses add `rule: Literal["its-name"] = "its-name"`."""

    rule: str

    def first_moments(self) -> dict[str, float]:
        """Return what is kept from round to round, one number a parameter, by name, and from what value it starts."""
        return {}

    def direction(self, update: Tensor, moments: dict[str, Tensor], steps: int) -> Tensor:
        """Return what is added to the weights, times the server's learning rate, float64 [params].

        Every coordinate depends on itself alone, because a large model is moved piece by piece.

        Args:
            update: The target update, float64 [params].
            moments: What is kept, by name, float64 [params] each; changed in place.
            steps: Rounds that have moved the model before.
        """
        raise AssertionError("every server optimiser has a direction")


server_optimizers: Registry[ServerOptimizer] = Registry("server_optimizer", default="average")
