"""Text as symbols, one a character, a word or a part of a word.

| unit | symbols | learnt from the training text |
|---|---|---|
| `character` | newline and printable ASCII; others are dropped | no |
| `word` | the most frequent words, and one symbol for all others | yes |
| `hashed-word` | words, several of which may share a symbol | no |
| `byte-pair` | characters, and the parts of words that occur most (`byte_pairs`) | yes |

Symbol 0 is padding and stands for nothing in a text. Words are runs of letters and digits, lower-cased, with the
apostrophes inside them; any other sign that is not blank is a word too, and so is the end of a line. Hashing is that of
Weinberger et al. (ICML 2009), by CRC-32: nothing is learnt, so nothing of a test text or of a held-out client can leak.
All of it is short enough to stand here, so reading text needs no further package.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.byte_pairs import BytePairs
from hpcfsl.data.sources.characters import ALPHABET, encode

Unit = Literal["character", "word", "hashed-word", "byte-pair"]

PADDING = 0
UNKNOWN = 1
"""The symbol of all words that are not in the vocabulary of `Words`."""
MIN_VOCABULARY = 128
MAX_VOCABULARY = 65_536

LEARNT = ("word", "byte-pair")
"""The units that are learnt from texts."""

Symbols = NDArray[np.uint16]

_WORDS = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_|\n")


class Tokeniser(Protocol):
    """Makes symbols of a text."""

    @property
    def vocabulary(self) -> int:
        """Number of symbols, padding included."""

    def encode(self, text: str) -> Symbols:
        """Return the symbols of a text, uint16 [symbols], none of them padding."""


def make_tokeniser(unit: Unit, vocabulary: int, texts: Iterable[str]) -> Tokeniser:
    """Return a tokeniser of at most `vocabulary` symbols; units that are learnt are learnt from `texts`."""
    if unit == "character":
        return Characters()
    if unit == "hashed-word":
        return HashedWords(vocabulary=vocabulary)
    if unit == "byte-pair":
        return BytePairs.learn(texts, vocabulary)
    return Words.learn(texts, vocabulary)


def fill_up(symbols: Symbols, positions: int) -> Symbols:
    """Return the first `positions` symbols, with padding in front where there are fewer."""
    kept = symbols[:positions]
    return np.pad(kept, (positions - len(kept), 0), constant_values=PADDING)


def split_words(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return _WORDS.findall(text.lower())


@dataclass(frozen=True, kw_only=True)
class Characters:
    """Newline and printable ASCII, in the order of the alphabet.

    Attributes:
        first: The symbol of the first one: 1, or 0 for data without padding.
    """

    first: int = PADDING + 1

    @property
    def vocabulary(self) -> int:
        """Number of symbols."""
        return len(ALPHABET) + self.first

    def encode(self, text: str) -> Symbols:
        """Return the symbols of the characters that are in the alphabet."""
        return encode(text).astype(np.uint16) + np.uint16(self.first)


@dataclass(frozen=True, kw_only=True)
class HashedWords:
    """Words by their hash, 1 .. vocabulary - 1."""

    vocabulary: int

    def encode(self, text: str) -> Symbols:
        """Return the symbol of each word."""
        hashes = [1 + zlib.crc32(word.encode()) % (self.vocabulary - 1) for word in split_words(text)]
        return np.array(hashes, np.uint16)


@dataclass(frozen=True, kw_only=True)
class Words:
    """The most frequent words, from symbol 2 on; 1 is any other.

    Attributes:
        numbers: The symbol of each word.
    """

    numbers: dict[str, int]

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int) -> Words:
        """Return the most frequent words of some texts, ties in alphabetical order."""
        counts = Counter(word for text in texts for word in split_words(text))
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(numbers={word: UNKNOWN + 1 + place for place, word in enumerate(ordered[: vocabulary - 2])})

    @property
    def vocabulary(self) -> int:
        """Number of symbols, padding and the unknown word included."""
        return len(self.numbers) + 2

    def encode(self, text: str) -> Symbols:
        """Return the symbol of each word."""
        return np.array([self.numbers.get(word, UNKNOWN) for word in split_words(text)], np.uint16)
