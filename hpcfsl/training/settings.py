"""How each client trains locally (section `[training]`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpcfsl.settings import Settings


class TrainingSettings(Settings):
    """Stochastic gradient descent at the client, and the step the server takes with the global update."""

    learning_rate: float = Field(0.1, gt=0, le=100)
    """Step size of local SGD (`eta_local`)."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Heavy-ball momentum of local SGD; its state starts at zero every round."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """L2 coefficient that is added to the gradient."""
    local_epochs: int = Field(1, ge=1, le=10_000)
    """Passes over a client's own samples each round."""
    batch_size: int = Field(16, ge=1, le=1_000_000)
    """Samples in a local step; the last batch of an epoch may be smaller."""
    server_learning_rate: float = Field(1.0, gt=0, le=100)
    """Factor on the target update when it is applied to the global model."""
    executor: Literal["auto", "stacked", "one-by-one"] = "auto"
    """`stacked` trains a chunk of clients as one batched computation, `one-by-one` loops over clients; `auto` takes
    `stacked` on a GPU and for models without convolutions, else `one-by-one`."""
    chunk_clients: int = Field(16, ge=1, le=100_000)
    """Clients trained together by the `stacked` executor."""
