"""How far a client came before it was gone, and what it had sent and received until then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hpcfsl.faults.kinds import Fault
from hpcfsl.seeding import Purpose, random_uniform
from hpcfsl.training.protocols import WireBytes

_STEP_LANE = 1


def steps_done(
    fault: NDArray[np.int8], clients: NDArray[np.int64], steps: NDArray[np.int64], *, seed: int, round: int
) -> NDArray[np.int64]:
    """Return how many of its `steps` local steps each client takes, int64 [clients].

    A client that drops out during training takes 1 to `steps` of them, each number equally likely, and sends no upload.
    """
    done = np.where(fault == Fault.DROPPED_BEFORE, 0, steps)
    leaves = fault == Fault.DROPPED_DURING
    if leaves.any():
        number = random_uniform(seed, Purpose.FAULTS, round=round, entity=clients[leaves], count=1, lane=_STEP_LANE)[
            :, 0
        ]
        done[leaves] = np.clip(np.ceil(number * steps[leaves]), 1, steps[leaves])
    return done


def samples_passed(done: NDArray[np.int64], samples: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
    """Return on how many samples, counted again in each epoch, `done` steps train, int64 [clients]."""
    epoch_steps = -(-samples // batch_size)
    return np.asarray(done // epoch_steps * samples + np.minimum(done % epoch_steps * batch_size, samples))


def bytes_until(
    wire: WireBytes,
    ahead: WireBytes,
    fault: NDArray[np.int8],
    passed: NDArray[np.int64],
    total: NDArray[np.int64],
) -> WireBytes:
    """Return what really crossed the wires: all of `wire` for a client that came to the end.

    Args:
        wire: Bytes of a whole round.
        ahead: What of them crosses before the first local step, for screening.
        fault: Each client's fault, int8 [clients].
        passed: Samples trained on, counted in each epoch, int64 [clients].
        total: The same for a whole round, at least 1.
    """
    started = fault != Fault.DROPPED_BEFORE
    uploads = started & (fault != Fault.DROPPED_DURING)

    def until(whole: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(started * (first + (whole - first) * passed // total))

    return WireBytes(
        smashed_up=until(wire.smashed_up, ahead.smashed_up),
        gradients_down=until(wire.gradients_down, ahead.gradients_down),
        labels_up=until(wire.labels_up, ahead.labels_up),
        outputs_down=until(wire.outputs_down, ahead.outputs_down),
        output_gradients_up=until(wire.output_gradients_up, ahead.output_gradients_up),
        model_up=wire.model_up * uploads,
        model_down=wire.model_down * started,
    )
