"""The mean of the embeddings of a text, without its padding, as one layer.

Layer 1. A bag of words, as in Joulin et al., "Bag of tricks for efficient text classification" (EACL 2017) and Iyyer et
al., "Deep unordered composition rivals syntactic methods for text classification" (ACL 2015). One layer because what
would cross a cut inside it is the text itself. Importing this module imports torch.
"""

from __future__ import annotations

from torch import Tensor, nn


class MeanEmbedding(nn.Module):
    """Embedding of each symbol, and their mean over the positions that are no padding; zeros where all of them are.

    Args:
        vocabulary: Number of symbols.
        width: Features of a symbol.
        padding: The symbol that fills texts up; -1 for none.
    """

    def __init__(self, vocabulary: int, width: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(self, symbols: Tensor) -> Tensor:
        """Return float32 [n, width] of symbols, int64 [n, positions]."""
        present = (symbols != self.padding).unsqueeze(-1).float()
        total: Tensor = (self.embedding(symbols) * present).sum(dim=1)
        return total / present.sum(dim=1).clamp(min=1.0)
