"""The parts of a causal transformer: learned positions, and a block that normalises before it computes.

Layer 1. Vaswani et al., "Attention is all you need" (NeurIPS 2017); the norms come first, as in Xiong et al., "On layer
normalization in the transformer architecture" (ICML 2020), which trains without a warm-up. `torch.nn.Transformer*`
would do the same, but is neither cut between its parts nor stacked. Importing this module imports torch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_DEVIATION = 0.02
"""Of the first positions: small beside the symbols' embeddings, as in GPT-2."""


class Positions(nn.Module):
    """A learned vector for each position, added to a sequence.

    Args:
        positions: Length of every sequence.
        width: Features at each position.
    """

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(positions, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew."""
        nn.init.normal_(self.weight, std=_DEVIATION)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs [n, positions, width] plus the vectors."""
        return inputs + self.weight


class CausalAttention(nn.Module):
    """Attention of every position to itself and those before it, in several heads.

    Args:
        width: Features at each position.
        heads: Number of heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, positions, width] of inputs [n, positions, width]."""
        query, key, value = self.inward(inputs).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        outputs: Tensor = self.outward(mixed.transpose(1, 2).flatten(2))
        return outputs


class TransformerBlock(nn.Module):
    """Causal attention, then two linear layers at each position; each behind a norm, its input added to its output.

    Args:
        width: Features at each position.
        heads: Heads of the attention; divides `width`.
        hidden: Features between the two linear layers.
        dropout: Share of the numbers dropped before each addition.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.dropout1 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, positions, width] of inputs [n, positions, width]."""
        hidden: Tensor = inputs + self.dropout1(self.attention(self.norm1(inputs)))
        wide = functional.gelu(self.linear1(self.norm2(hidden)))
        outputs: Tensor = hidden + self.dropout2(self.linear2(wide))
        return outputs
