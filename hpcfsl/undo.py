"""What a group's shared server half is moved by in the end: as it was trained, or trained again without the excluded.

Layer 4. A shared half has trained on everybody before anybody was scored. Under `protocol.undo = "replay"` it is
trained again from the round's start, on what the remaining clients sent, each client's steps scaled by its coefficient
in the group's second update over its data share among those that remain: the method's eta / c_i.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.defense.weighting import TargetWeights
from hpcfsl.training.shared import Session, SharedTrainer
from hpcfsl.world import World


def server_displacement(
    world: World, session: Session, kept: NDArray[np.bool_], target: TargetWeights
) -> tuple[torch.Tensor, int]:
    """Return the displacement of the server half, float32 [server params], and the samples replayed for it.

    Args:
        world: The run.
        session: What the group's server half went through.
        kept: The clients that remain, bool [clients].
        target: Their weights.
    """
    trainer, protocol = world.executor, world.config.protocol
    assert isinstance(trainer, SharedTrainer), "only shared server halves have sessions"
    if protocol.undoes != "replay":
        return session.displacement, 0
    shares = session.samples[kept] / session.samples[kept].sum()
    scales = np.full(len(kept), np.nan)
    scales[kept] = target.factors / shares * target.server_factor
    if kept.all() and np.allclose(scales, 1.0, rtol=1e-12, atol=0.0):
        return session.displacement, 0  # a replay of everything would give what was trained
    replayed = trainer.replay(session, scales)
    return replayed.displacement, replayed.samples
