"""How each client trains locally (section `[training]`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from hpcfsl.settings import Settings

LossName = Literal["auto", "cross-entropy", "squared", "absolute", "huber"]
"""Names of losses; `auto` is `cross-entropy` for classes and `squared` for numbers."""


class TrainingSettings(Settings):
    """Local training at the client, and the step the server takes with the global update."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Rule of the local step. `adam` is that of Kingma and Ba (2015) with bias correction; its state, like that of
    momentum, starts at zero every round."""
    learning_rate: float = Field(0.1, gt=0, le=100)
    """Step size of the local optimizer (`eta_local`)."""
    server_half_learning_rate: float = Field(0.0, ge=0, le=100)
    """Step size of the server half's local steps where the model is cut; 0 takes `learning_rate`."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Heavy-ball momentum of `sgd`."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of `adam`'s mean of gradients."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of `adam`'s mean of squared gradients."""
    adam_epsilon: float = Field(1e-8, gt=0, le=1)
    """Added to the root of `adam`'s mean of squared gradients."""
    weight_decay: float = Field(0.0, ge=0, le=10)
    """L2 coefficient: this times the weights is added to the gradient."""
    proximal: float = Field(0.0, ge=0, le=1000)
    """FedProx's coefficient `mu` (Li et al., MLSys 2020): this times the way from the round's start is added to the
    gradient; of a server half that goes from client to client, the way from the start of the client's turn."""
    drift: Literal["none", "scaffold"] = "none"
    """What is added to local gradients against clients drifting apart: `scaffold` adds c - c_i of Karimireddy et al.
    (ICML 2020, option II), averages of the steps that all clients and this client took before. For plain `sgd`, and
    protocols with a copy of the server half for each client."""
    clip_norm: float = Field(0.0, ge=0, le=1e9)
    """Largest norm of a local step's gradient over all parameters, proximal term included; 0 for no clipping. Where a
    group shares its server half, each side is clipped by itself."""
    loss: LossName = "auto"
    """What is minimised: for classes `cross-entropy`; for numbers `squared`, `absolute` or `huber` (squared up to an
    error of 1, absolute beyond), of the numbers as `data.standardise` makes them. `auto` is `cross-entropy` for classes
    and `squared` for numbers. For plain arrays (`npz`, `hdf5`) it decides too what targets are: see docs/data.md."""
    local_epochs: int = Field(1, ge=1, le=10_000)
    """Passes over a client's own samples each round."""
    batch_size: int = Field(16, ge=1, le=1_000_000)
    """Samples in a local step; the last batch of an epoch may be smaller."""
    server_learning_rate: float = Field(1.0, gt=0, le=100)
    """Factor on the target update when it is applied to the global model."""
    server_learning_rate_decay: float = Field(1.0, gt=0, le=1)
    """Factor on `server_learning_rate` after each round that moved the model; 1 keeps it. With few or unlike clients
    in a round the last rounds then average out what the constant rate leaves as noise: 0.99 takes it to a tenth in 230
    rounds."""
    executor: Literal["auto", "native", "stacked", "one-by-one"] = "auto"
    """`native` trains in compiled kernels on the CPU, `stacked` a chunk of clients as one batched computation,
    `one-by-one` loops over clients; `auto` takes `stacked` on a GPU, and on a CPU `native` where it knows all layers
    of the model, else `stacked` for models without LSTM and convolutions over images, else `one-by-one`; see
    `table`."""
    chunk_clients: int = Field(16, ge=1, le=100_000)
    """Clients trained together by the `stacked` executor."""
    table: str = ""
    """Path of a table of `hpcfsl calibrate`, from which `auto` takes executor and chunk where it knows the model; empty
    for the table that the package ships. A run must find it as it was when it is continued. No part in protocols in
    which a group shares its server half."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Arithmetic of matrix products and convolutions: `tf32` rounds their inputs to 10 bits (CUDA only), `bf16`
    computes them in bfloat16 (torch autocast). Weights, updates and sums stay in float32."""
    cuda_graphs: bool = False
    """Record a whole local step of the `stacked` executor once and replay it (CUDA only)."""

    @field_validator("momentum")
    @classmethod
    def _momentum_is_of_sgd(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("optimizer") == "adam":
            raise ValueError("belongs to optimizer 'sgd'; set it to 0, or adam_beta1 instead")
        return value

    @field_validator("drift")
    @classmethod
    def _scaffold_is_of_plain_sgd(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and (info.data.get("optimizer") == "adam" or info.data.get("momentum")):
            raise ValueError("takes steps for gradients; use optimizer 'sgd' with momentum = 0, or drift 'none'")
        return value
