"""The server's gradient of a step: a weighted mean over clients, summed one client after the other.

So it has the same bits however the clients were divided into chunks. A client whose gradient is not finite has no part
in it. One that is finite and huge has: only `training.clip_norm` bounds what it does to the others until it is undone
(docs/method.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Mean:
    """Adds up weighted gradients.

    Args:
        size: Length of a gradient.
        device: Where they are.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.total = torch.zeros(size, device=device)

    def add(self, gradients: Tensor, weights: NDArray[np.float64]) -> None:
        """Add gradients, float32 [clients, size], times their weights, float64 [clients]; those of weight 0 not."""
        finite = torch.isfinite(gradients.sum(dim=1)).tolist()
        for gradient, weight, good in zip(gradients, weights.tolist(), finite, strict=True):
            if good and weight:
                self.total.add_(gradient, alpha=weight)
