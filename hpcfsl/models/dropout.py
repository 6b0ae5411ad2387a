"""Dropout whose mask is handed in, so that it depends on the client and the step and on nothing else.

Layer 1. Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (JMLR 15, 2014).
`split` puts it in the place of every `torch.nn.Dropout`; training sets the masks. The mask of dropout layer k in local
step t has one word of `random_words(seed, Purpose.DROPOUT, round=round, entity=client, lane=64 * t + k)` for each of
the batch's numbers there, in torch's order; a number is dropped if its word is below `round(p * 2**32)`. Importing this
module imports torch.
"""

from __future__ import annotations

from torch import Tensor, nn

MAX_LAYERS = 64
"""How many dropout layers a model may have: so many lanes of random words each local step has."""


class KeyedDropout(nn.Module):
    """Multiplies by a mask that training sets before each local step; without one it passes everything on.

    Args:
        p: Share of the numbers that is dropped, in (0, 1).
        layer: Its number among the model's dropout layers, from 0, in the order of `module.modules()`.

    Attributes:
        p: As given.
        layer: As given.
        features: Shape of what one sample has at this layer, known once the model is split.
        mask: 0 where a number is dropped, 1 / (1 - p) elsewhere, [batch, *features]; None for no dropout.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p, self.layer = p, layer
        self.features: tuple[int, ...] = ()
        self.mask: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs`, [batch, *features], times the mask in training mode, and as they are otherwise."""
        return inputs if self.mask is None or not self.training else inputs * self.mask

    def extra_repr(self) -> str:
        """Return what `repr` shows between the brackets."""
        return f"p={self.p}, layer={self.layer}"
