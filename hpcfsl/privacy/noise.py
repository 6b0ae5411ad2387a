"""Keyed Gaussian noise on any device, without a generator object per client.

The random integers are those of `hpcfsl.seeding.philox`, equal on CPU and GPU; the Box-Muller transform is float32, so
the last bit of a normal number follows the device's `log` and `cos`.
"""

from __future__ import annotations

from math import pi

import torch

from hpcfsl.seeding import Purpose, key_of, philox

# Counters evaluated together: the int64 temporaries of the generator then stay in a core's cache.
BLOCK_COUNTERS = 8192
_UNIT = 2.0**-24


def add_normal(target: torch.Tensor, deviation: float, *, seed: int, purpose: Purpose, round: int, entity: int) -> None:
    """Add keyed normal numbers to a contiguous float32 vector [params], in place.

    Args:
        target: The vector.
        deviation: Standard deviation.
        seed: The run's seed.
        purpose: What the noise is for.
        round: The round.
        entity: The client or group whose noise this is.
    """
    counters = -(-len(target) // 4)
    for first in range(0, counters, BLOCK_COUNTERS):
        noise = _normals(
            range(first, min(first + BLOCK_COUNTERS, counters)), seed, purpose, round, entity, target.device
        )
        piece = target[4 * first : 4 * first + len(noise)]
        piece.add_(noise[: len(piece)], alpha=deviation)


def _normals(
    counters: range, seed: int, purpose: Purpose, round: int, entity: int, device: torch.device
) -> torch.Tensor:
    index = torch.arange(counters.start, counters.stop, device=device)
    constant = [torch.full_like(index, word) for word in (0, entity, round)]
    words = philox((index, *constant), key_of(seed, purpose))  # type: ignore[arg-type]  # exactly four words
    uniforms = [((word >> 8).float() + 0.5) * _UNIT for word in words]
    pairs = []
    for radius_uniform, angle_uniform in (uniforms[:2], uniforms[2:]):
        radius, angle = torch.sqrt(-2.0 * torch.log(radius_uniform)), 2.0 * pi * angle_uniform
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, dim=1).reshape(-1)
