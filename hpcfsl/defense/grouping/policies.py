"""The built-in group policies.

`random` re-draws the groups every round: no attacker can count on its neighbours, and a group that was captured once is
not captured for ever. `fixed` keeps them: choose it to model sites or racks. `stratified` deals clients of like sample
count to different groups, so that groups cost and weigh about the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpcfsl.defense.grouping.grouping import Grouping, deal, groupings
from hpcfsl.seeding import Purpose, random_permutation, random_words


@groupings.register
class RandomGroups(Grouping):
    """A keyed shuffle every round."""

    rule: Literal["random"] = "random"

    def divide(
        self, clients: NDArray[np.int64], *, samples: NDArray[np.int64], seed: int, round: int
    ) -> Sequence[NDArray[np.int64]]:
        """Deal a shuffle that is keyed by (seed, round)."""
        order = random_permutation(seed, Purpose.GROUPING, round=round, entity=0, size=len(clients))
        return deal(clients[order], self.number)


@groupings.register
class FixedGroups(Grouping):
    """A client's group depends on the seed and its id alone, whatever else participates."""

    rule: Literal["fixed"] = "fixed"

    def divide(
        self, clients: NDArray[np.int64], *, samples: NDArray[np.int64], seed: int, round: int
    ) -> Sequence[NDArray[np.int64]]:
        """Send each client to its home group; sizes vary when only some clients participate."""
        # Ids are shuffled inside consecutive runs of `number` clients, so that full participation gives even groups.
        run, place = np.divmod(clients, self.number)
        shifts = random_words(seed, Purpose.GROUPING, round=0, entity=run, count=1)[:, 0]
        home = (place + shifts) % self.number
        return [clients[home == group] for group in range(self.number)]


@groupings.register
class StratifiedGroups(Grouping):
    """Clients of like size are dealt to different groups; which one is shuffled every round."""

    rule: Literal["stratified"] = "stratified"

    def divide(
        self, clients: NDArray[np.int64], *, samples: NDArray[np.int64], seed: int, round: int
    ) -> Sequence[NDArray[np.int64]]:
        """Order clients by samples, then deal each run of `number` clients in a shuffled order."""
        order = clients[np.lexsort((clients, -samples))]
        deals: list[list[int]] = [[] for _ in range(self.number)]
        for stratum, first in enumerate(range(0, len(order), self.number)):
            shuffle = random_permutation(seed, Purpose.GROUPING, round=round, entity=stratum + 1, size=self.number)
            for client, group in zip(order[first : first + self.number], shuffle, strict=False):
                deals[group].append(int(client))
        return [np.sort(np.array(members, dtype=np.int64)) for members in deals]
