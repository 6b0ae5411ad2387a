"""The factor that turns shares, which sum to 1, into scaling coefficients (P4; section `[normalisation]`).

A factor of 1 multiplies every equal client's step by the size of its group. `survivors` gives equal clients a
coefficient of 1; `harmonic` keeps the group's mean step whatever the scores.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.settings import Registry, Settings


class Normalisation(Settings):
    """A rule for the normalisation factor."""

    rule: str

    def factor(self, shares: NDArray[np.float64]) -> float:
        """Return the factor for the shares of a group's remaining clients, float64 [survivors]."""
        raise AssertionError("every normalisation defines factor")


normalisations: Registry[Normalisation] = Registry("normalisation", default="survivors")


@normalisations.register
class ConstantFactor(Normalisation):
    """A preset constant, as the description has it."""

    rule: Literal["constant"] = "constant"
    value: float = Field(1.0, gt=0, le=1e9)
    """The factor."""

    def factor(self, shares: NDArray[np.float64]) -> float:
        """Return the constant."""
        return self.value


@normalisations.register
class SurvivorsFactor(Normalisation):
    """The number of remaining clients."""

    rule: Literal["survivors"] = "survivors"

    def factor(self, shares: NDArray[np.float64]) -> float:
        """Return the number of shares."""
        return float(len(shares))


@normalisations.register
class HarmonicFactor(Normalisation):
    """The mean of 1 / share: the mean of 1 / coefficient is then 1."""

    rule: Literal["harmonic"] = "harmonic"

    def factor(self, shares: NDArray[np.float64]) -> float:
        """Return the mean reciprocal share; shares of zero make it infinite, which the bounds then take care of."""
        with np.errstate(divide="ignore"):
            return float(np.mean(1.0 / shares))
