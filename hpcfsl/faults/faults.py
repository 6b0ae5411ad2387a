"""The seam for faults: which client suffers what in a round."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.settings import Registry, Settings


class Faults(Settings):
    """Faults of clients (section `[faults]`). Subclasses add `rule: Literal["its-name"] = "its-name"`."""

    rule: str

    @property
    def probability(self) -> float:
        """Probability that a client of fault factor 1 suffers a fault in a round, for checks; 0 where there is none."""
        return 0.0

    @property
    def corrupts(self) -> Literal["one", "all"]:
        """Whether a corrupt upload is broken in one coordinate or in all."""
        return "all"

    def draw(
        self, clients: NDArray[np.int64], factors: NDArray[np.float64], *, seed: int, round: int
    ) -> NDArray[np.int8]:
        """Return the `Fault` of each client, int8 [clients]; never `LATE`.

        Args:
            clients: Client ids, int64 [clients].
            factors: Factors of the clients' device classes on all probabilities, float64 [clients].
            seed: The run's seed.
            round: The round.
        """
        raise AssertionError("every rule draws faults")


faults: Registry[Faults] = Registry("faults", default="none")
