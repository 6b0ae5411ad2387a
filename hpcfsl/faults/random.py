"""Faults with fixed probabilities: every client in every round by itself.

Choose it to ask how many clients a round can lose. Real faults come in bursts (a provider's outage, a night): for those
write a rule of one's own that reads or draws them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hpcfsl.faults.faults import Faults, faults
from hpcfsl.faults.kinds import Fault
from hpcfsl.seeding import Purpose, random_uniform


@faults.register
class RandomFaults(Faults):
    """Each client suffers at most one fault a round; the probabilities sum to at most 1."""

    rule: Literal["random"] = "random"
    dropout_before: float = Field(0.0, ge=0, le=1)
    """Probability that a client never starts."""
    dropout_during: float = Field(0.0, ge=0, le=1)
    """Probability that a client leaves after some of its local steps, each number of steps from 1 on equally likely."""
    dropout_after: float = Field(0.0, ge=0, le=1)
    """Probability that a client's upload is lost on the way."""
    nan: float = Field(0.0, ge=0, le=1)
    """Probability that an upload arrives with NaN in it."""
    infinity: float = Field(0.0, ge=0, le=1)
    """Probability that an upload arrives with infinity in it."""
    huge: float = Field(0.0, ge=0, le=1)
    """Probability that an upload arrives with 1e30 in it."""
    coordinates: Literal["one", "all"] = "all"
    """Whether a corrupt upload is broken in one coordinate, drawn anew each time, or in all."""

    @property
    def probability(self) -> float:
        """The sum of all probabilities."""
        return float(sum(self._probabilities))

    @property
    def corrupts(self) -> Literal["one", "all"]:
        """As set."""
        return self.coordinates

    def draw(
        self, clients: NDArray[np.int64], factors: NDArray[np.float64], *, seed: int, round: int
    ) -> NDArray[np.int8]:
        """Return each client's fault: one uniform number, held against the probabilities laid end to end."""
        edges = factors[:, None] * np.cumsum(self._probabilities)
        number = random_uniform(seed, Purpose.FAULTS, round=round, entity=clients, count=1)
        place = (number > edges).sum(axis=1)
        return np.asarray(np.array([*_KINDS, Fault.NONE], np.int8)[place])

    @property
    def _probabilities(self) -> tuple[float, ...]:
        dropouts = (self.dropout_before, self.dropout_during, self.dropout_after)
        return (*dropouts, self.nan, self.infinity, self.huge)


_KINDS = (*(Fault.DROPPED_BEFORE, Fault.DROPPED_DURING, Fault.DROPPED_AFTER), Fault.NAN, Fault.INFINITY, Fault.HUGE)
