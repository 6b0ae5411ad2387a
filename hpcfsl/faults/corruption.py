"""Uploads that arrive broken, whoever sent them: a faulty memory, a diverged training, a bad link."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.faults.faults import Faults
from hpcfsl.faults.kinds import Fault
from hpcfsl.seeding import Purpose, random_words

_COORDINATE_LANE = 2
VALUES = {Fault.NAN: float("nan"), Fault.INFINITY: float("inf"), Fault.HUGE: 1e30}


def corrupt_in_place(
    rule: Faults,
    uploads: torch.Tensor,
    fault: NDArray[np.int8],
    *,
    clients: NDArray[np.int64],
    seed: int,
    round: int,
) -> NDArray[np.bool_]:
    """Break the uploads of clients whose fault says so, in place; return which rows were broken, bool [clients].

    Args:
        rule: Says whether one coordinate or all of them break.
        uploads: float32 [clients, params].
        fault: Each client's fault, int8 [clients].
        clients: Client ids, int64 [clients].
        seed: The run's seed.
        round: The round.
    """
    broken = np.isin(fault, list(VALUES))
    for row in np.flatnonzero(broken):
        value = VALUES[Fault(fault[row])]
        if rule.corrupts == "all":
            uploads[row] = value
        else:
            entity = int(clients[row])
            words = random_words(seed, Purpose.FAULTS, round=round, entity=entity, count=1, lane=_COORDINATE_LANE)
            uploads[row, int(words[0]) * uploads.shape[1] >> 32] = value
    return broken
