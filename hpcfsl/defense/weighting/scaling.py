"""Scaling coefficients (P4): product = influence * score, share of the group's sum, times a normalisation factor.

Unbounded coefficients are dangerous: a score towards 0 is an unbounded step. `[bounds]` limits them on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.defense.weighting.normalisation import Normalisation
from hpcfsl.settings import Settings


class Bounds(Settings):
    """Limits on scaling coefficients (section `[bounds]`)."""

    lower: float = Field(1.0, ge=0, le=1e9)
    """Least scaling coefficient: 1 only damps, below 1 also amplifies; 0 sets no bound."""
    upper: float = Field(8.0, gt=0, le=1e300)
    """Largest scaling coefficient; 1e300 sets no bound."""
    sum_over: Literal["survivors", "all"] = "survivors"
    """Whose products the shares are taken of. With `all`, one excluded client with a huge score multiplies the others'
    steps."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Coefficients of a group's remaining clients, float64 [survivors] each.

    Attributes:
        share: The client's product over the sum of products.
        raw_coefficient: Share times normalisation factor.
        coefficient: The same within bounds: `c_i`, never 0.
    """

    share: NDArray[np.float64]
    raw_coefficient: NDArray[np.float64]
    coefficient: NDArray[np.float64]


# With no lower bound a coefficient of 0 would divide by 0; so the step is enormous, as described, but a number.
_SMALLEST = 1e-30


def scale(
    credit: NDArray[np.float64],
    influence: NDArray[np.float64],
    *,
    excluded_products: float,
    normalisation: Normalisation,
    bounds: Bounds,
) -> Scaling:
    """Return the scaling coefficients of the clients that remain (P2 step 5).

    Args:
        credit: Credit scores, finite, float64 [survivors].
        influence: Influences, positive, float64 [survivors].
        excluded_products: Sum of the excluded clients' products; used where `bounds.sum_over` is `all`.
        normalisation: The rule for the factor.
        bounds: Limits on the coefficients.
    """
    products = credit * influence
    total = float(products.sum()) + (excluded_products if bounds.sum_over == "all" else 0.0)
    # All products zero: nobody is suspicious, so everybody is equal.
    share = products / total if total > 0 else np.full(len(products), 1.0 / max(len(products), 1))
    raw = _times(share, normalisation.factor(share))
    return Scaling(
        share=share, raw_coefficient=raw, coefficient=np.clip(raw, max(bounds.lower, _SMALLEST), bounds.upper)
    )


def _times(share: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    # A zero share under an infinite factor stays zero: that client is the least suspicious one.
    return np.where(share > 0, share * factor if np.isfinite(factor) else np.inf, 0.0)
