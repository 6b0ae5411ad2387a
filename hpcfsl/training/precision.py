"""The arithmetic of local training: float32, TF32 on a GPU, or bfloat16 through torch's autocast.

What autocast computes in bfloat16 (matrix products, convolutions) and what it leaves in float32 (norms, losses) is
listed at https://docs.pytorch.org/docs/stable/amp.html . Weights, gradients and updates are float32 at each setting.
"""

from __future__ import annotations

import contextlib

import torch

from hpcfsl.training.settings import TrainingSettings


def autocast(settings: TrainingSettings, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return the context in which the forward pass and the loss are computed."""
    if settings.precision != "bf16":
        return contextlib.nullcontext()
    # No cache of weights in bfloat16: a recorded CUDA graph would go on with those of the step that was recorded.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
