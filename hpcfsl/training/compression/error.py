"""What a compression loses: the error of smashed data on a batch of samples. Importing this module imports torch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpcfsl.models.split import SplitModel


def squares(model: SplitModel, weights: Tensor, inputs: Tensor) -> NDArray[np.float64]:
    """Return the sum of squares of the smashed data's error, and of the smashed data, float64 [2].

    Args:
        model: The model, with its link.
        weights: Its parameters, float32 [params].
        inputs: Samples, [samples, ...].
    """
    with torch.no_grad():
        smashed = model.client_forward(model.layout.unflatten(weights), inputs)
        sums = [values.double().square().sum() for values in (model.link(smashed) - smashed, smashed)]
    return torch.stack(sums).cpu().numpy()


def relative_error(sums: NDArray[np.float64]) -> float:
    """Return the root of error squares over squares, of sums float64 [2]; 0 where all smashed data is 0."""
    error, size = sums.tolist()
    return float((error / size) ** 0.5) if size else 0.0
