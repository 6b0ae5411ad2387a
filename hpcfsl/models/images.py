"""What shape images have: [channels, height, width].

Layer 1.
"""

from __future__ import annotations

from hpcfsl.errors import ConfigError
from hpcfsl.models.model import Samples

CIFAR_10 = Samples(shape=(3, 32, 32), num_outputs=10, title="a CIFAR-10 image")


def image_shape(name: str, sample_shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Return `sample_shape` as (channels, height, width).

    Args:
        name: The model's name, for the message.
        sample_shape: Shape of one sample.
        smallest: The least height and width the model can take.

    Raises:
        ConfigError: The samples are no images, or too small.
    """
    if len(sample_shape) != 3 or min(sample_shape[1:]) < smallest:
        raise ConfigError(
            "model.name",
            name,
            f"needs images [channels, height, width] of at least {smallest} x {smallest}, the samples are "
            f"{list(sample_shape)}; choose 'mlp' or other data",
        )
    channels, height, width = sample_shape
    return channels, height, width
