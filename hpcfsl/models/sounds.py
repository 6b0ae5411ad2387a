"""What shapes the samples of sound have: a wave [1, numbers], or frames [1, rows, steps] or [rows, steps].

Layer 1. Rows are mel bands or cepstral coefficients; `data.source = "wav"` makes all of these.
"""

from __future__ import annotations

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Samples

LOG_MEL = Samples(shape=(1, 40, 61), num_outputs=10, title="40 mel bands, a second in steps of 16 ms")


def sound_shape(name: str, sample_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (rows, steps) of a sample of sound; a wave has one row.

    Args:
        name: The model's name, for the message.
        sample_shape: Shape of one sample.

    Raises:
        ConfigError: The samples are no sound.
    """
    if len(sample_shape) not in (2, 3) or (len(sample_shape) == 3 and sample_shape[0] != 1):
        raise ConfigError(
            "model.name",
            name,
            f"needs sound, a wave [1, numbers] or frames [1, rows, steps], the samples are {list(sample_shape)}; "
            "choose 'mlp' or other data",
        )
    return sample_shape[-2], sample_shape[-1]


def frames_shape(name: str, sample_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (rows, steps) of the frames of a spectrum; arguments and errors as those of `sound_shape`.

    Raises:
        ConfigError: The samples are a wave.
    """
    rows, steps = sound_shape(name, sample_shape)
    if len(sample_shape) != 3:
        raise ConfigError(
            "model.name",
            name,
            f"needs the frames of a spectrum [1, rows, steps], the samples are {list(sample_shape)}; "
            "set data.features = 'log-mel', or choose 'speech-cnn1d'",
        )
    return rows, steps
