"""Which device a rank computes on: the GPU with its rank on the node, or the CPU."""

from __future__ import annotations

import os

import torch

from hpcfsl.errors import ConfigError


def device_of_rank(setting: str, local_rank: int, *, tf32: bool = False) -> torch.device:
    """Return the device for `run.device`, set up for reproducible numbers; ranks beyond the GPUs share them in turn.

    Args:
        setting: `run.device`.
        local_rank: The rank on its node.
        tf32: Whether products and convolutions of float32 numbers on a GPU may round them to TF32.

    Raises:
        ConfigError: A GPU is asked for and there is none.
    """
    count = torch.cuda.device_count() if setting != "cpu" else 0
    if count:
        # Read by cuBLAS when CUDA starts, which is later than this; without it matrix products are not reproducible.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        return torch.device("cuda", local_rank % count)
    if setting == "cuda":
        raise ConfigError("run.device", setting, "no CUDA device is visible here; use 'cpu' or 'auto'")
    return torch.device("cpu")
