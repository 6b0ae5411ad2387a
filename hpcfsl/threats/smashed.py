"""What attacks on smashed data share."""

from __future__ import annotations

import torch

from hpcfsl.threats.threat import Threat


class SmashedThreat(Threat):
    """An attack that changes smashed data: subclasses define `poison_smashed`."""

    @property
    def poisons_smashed(self) -> bool:
        """True."""
        return True


def typical_size(smashed: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of each client's smashed data, [clients, 1, ...], to broadcast against them."""
    squares = smashed.flatten(1).square().mean(dim=1)
    return squares.sqrt().view(-1, *[1] * (smashed.ndim - 1))
