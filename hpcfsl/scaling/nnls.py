"""Least squares with coefficients that are not negative: seconds are not.

Layer 4, numpy only: scipy is no dependency of a run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpcfsl.scaling.network import Amounts

Floats = NDArray[np.float64]
_REWEIGHTED = 15
_LEAST_ERROR = 0.01  # errors below one in a hundred count alike


def least_errors(amounts: Sequence[Amounts], seconds: Floats, scale: Floats) -> dict[str, float]:
    """Return the rate of each amount: least absolute errors over `scale`, none negative.

    By least squares whose weights are the errors of the solve before: a measurement that something disturbed then has
    little pull (iteratively reweighted least squares).

    Args:
        amounts: What was done in each measurement.
        seconds: What it took, float64 [measurements].
        scale: What an error of 1 is, seconds, float64 [measurements].
    """
    names = sorted({name for each in amounts for name in each})
    table = np.array([[each.get(name, 0.0) for name in names] for each in amounts])
    weights = 1.0 / scale
    for _ in range(_REWEIGHTED):
        rates = solve(table * weights[:, None], seconds * weights)
        errors = np.abs(table @ rates - seconds) / scale
        weights = 1.0 / (scale * np.sqrt(np.maximum(errors, _LEAST_ERROR)))
    return dict(zip(names, map(float, rates), strict=True))


def solve(amounts: Floats, seconds: Floats) -> Floats:
    """Return x >= 0 with the least |amounts x - seconds|, float64 [columns].

    The active set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23). Columns are scaled to
    length 1 first, as they count bytes and messages alike.

    Args:
        amounts: float64 [rows, columns].
        seconds: float64 [rows].
    """
    lengths = np.linalg.norm(amounts, axis=0)
    scaled = amounts / np.where(lengths > 0, lengths, 1.0)
    x, free = np.zeros(scaled.shape[1]), np.zeros(scaled.shape[1], bool)
    tolerance = 1e-12 * max(1.0, float(np.linalg.norm(seconds)))
    for _ in range(3 * len(x)):
        pull = np.where(free, -np.inf, scaled.T @ (seconds - scaled @ x))
        if free.all() or pull.max() <= tolerance:
            break
        free[int(pull.argmax())] = True
        x = _settle(scaled, seconds, x, free)
    return x / np.where(lengths > 0, lengths, 1.0)


def _settle(amounts: Floats, seconds: Floats, x: Floats, free: NDArray[np.bool_]) -> Floats:
    """Return the best x on the free columns, walking back and holding at 0 those that would turn negative."""
    while True:
        best = np.zeros_like(x)
        best[free] = np.linalg.lstsq(amounts[:, free], seconds, rcond=None)[0]
        below = free & (best <= 0)
        if not below.any():
            return best
        part = float((x[below] / (x[below] - best[below])).min()) if (x[below] > 0).any() else 0.0
        x = np.maximum(x + part * (best - x), 0.0)
        free &= ~(below & (x <= 1e-15))
        x[~free] = 0.0
