"""The seam for group policies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.settings import Registry, Settings


class Grouping(Settings):
    """How the participating clients of a round are divided into groups (section `[groups]`)."""

    rule: str
    number: int = Field(4, ge=2, le=1_000_000)
    """Groups each round. The method needs at least two: only sums may leave a group."""
    min_survivors: int = Field(2, ge=1)
    """A group with fewer clients left after exclusion withholds its update, which would be a bare client update."""

    def divide(
        self, clients: NDArray[np.int64], *, samples: NDArray[np.int64], seed: int, round: int
    ) -> Sequence[NDArray[np.int64]]:
        """Return the members of each group, ids ascending; groups differ in size by at most one where the rule allows.

        Args:
            clients: Participating client ids, int64 [clients], ascending.
            samples: Their training samples, int64 [clients].
            seed: The run's seed.
            round: The round.
        """
        raise AssertionError("every policy defines divide")


groupings: Registry[Grouping] = Registry("groups", default="random")


def deal(order: NDArray[np.int64], number: int) -> list[NDArray[np.int64]]:
    """Return `order` cut into `number` even pieces, each sorted."""
    return [np.sort(piece) for piece in np.array_split(order, number)]
