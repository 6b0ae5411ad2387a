"""Keyed Gaussian noise on any device, without a generator object per client.

The random integers are those of `hpcfsl.seeding.philox`, equal on CPU and GPU; the Box-Muller transform is float32, so
the last bits of a normal number follow the `log` and `cos` of the device. The same numbers come from the kernel
`hpcfsl.native.columns.perturb_rows`, with its own last bits.
"""

from __future__ import annotations

from math import pi

import numpy as np
import torch
from numpy.typing import NDArray

from hpcfsl.seeding import Purpose, key_of, philox

# Counters of all rows evaluated together. On a CPU the int64 temporaries of the generator then stay in a core's cache;
# a GPU wants more work at a time than a core.
BLOCK_COUNTERS = 8192
GPU_BLOCK_COUNTERS = 1 << 20
_UNIT = 2.0**-24


def add_normal_rows(
    target: torch.Tensor,
    deviation: float,
    *,
    seed: int,
    purpose: Purpose,
    round: int,
    entities: NDArray[np.int64],
) -> None:
    """Add keyed normal numbers to rows, in place.

    Args:
        target: The rows, float32 [rows, params].
        deviation: Standard deviation.
        seed: The run's seed.
        purpose: What the noise is for.
        round: The round.
        entities: The client or group whose noise each row gets, int64 [rows].
    """
    counters = -(-target.shape[1] // 4)
    block = BLOCK_COUNTERS if target.device.type == "cpu" else GPU_BLOCK_COUNTERS
    ids = torch.from_numpy(np.asarray(entities, np.int64)).to(target.device)[:, None]
    together = max(1, block // max(counters, 1))
    for top in range(0, len(target), together):
        rows = target[top : top + together]
        for first in range(0, counters, block):
            span = range(first, min(first + block, counters))
            noise = _normals(span, seed, purpose, round, ids[top : top + together])
            piece = rows[:, 4 * first : 4 * span.stop]
            piece.add_(noise[:, : piece.shape[1]], alpha=deviation)


def _normals(counters: range, seed: int, purpose: Purpose, round: int, entities: torch.Tensor) -> torch.Tensor:
    """Return the normal numbers of some counters for each entity, float32 [entities, 4 * counters]."""
    index = torch.arange(counters.start, counters.stop, device=entities.device).expand(len(entities), -1)
    counter = index, torch.full_like(index, 0), entities.expand_as(index), torch.full_like(index, round)
    words = philox(counter, key_of(seed, purpose))
    uniforms = [((word >> 8).float() + 0.5) * _UNIT for word in words]
    pairs = []
    for radius_uniform, angle_uniform in (uniforms[:2], uniforms[2:]):
        radius, angle = torch.sqrt(-2.0 * torch.log(radius_uniform)), 2.0 * pi * angle_uniform
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, dim=-1).flatten(1)
