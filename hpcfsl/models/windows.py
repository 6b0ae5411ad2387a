"""What shape a window of a series has: [positions, features].

Layer 1.
"""

from __future__ import annotations

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Samples

STEPS_AHEAD = Samples(
    shape=(48, 8),
    num_outputs=12,
    target_shape=(12,),
    predicts="numbers",
    title="48 positions of 8 numbers, 12 steps ahead",
)


def window_shape(name: str, sample_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (positions, features) of a window.

    Args:
        name: The model's name, for the message.
        sample_shape: Shape of one sample.

    Raises:
        ConfigError: The samples are no windows.
    """
    if len(sample_shape) != 2:
        fix = f"needs windows of a series [positions, features], the samples are {list(sample_shape)}; choose 'mlp'"
        raise ConfigError("model.name", name, fix)
    return sample_shape[0], sample_shape[1]
