"""Parts of words, learnt by joining again and again the two neighbours that occur most: byte-pair encoding.

Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units" (ACL 2016), over the characters
of `characters`. A text is first cut into chunks, a word with the blank before it, a run of signs, or a run of blanks,
and nothing is joined across chunks. Ties go to the pair whose symbols were made first, so the result depends on the
text alone. Choose it for language models: no word is unknown, and frequent ones are one symbol.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hpcfsl.data.sources.characters import ALPHABET, encode

Pair = tuple[int, int]

_CHUNKS = re.compile(r" ?[A-Za-z0-9]{1,32}| ?[^A-Za-z0-9\s]{1,32}|\s{1,32}")  # short, so that odd texts cost no more
_FIRST = len(ALPHABET) + 1
"""Symbol of the first pair that is joined; 0 is padding and 1 .. are the characters."""


@dataclass(frozen=True, kw_only=True)
class BytePairs:
    """Symbols of characters and of joined pairs.

    Attributes:
        pairs: The two symbols that each further symbol stands for, in the order in which they were learnt.
    """

    pairs: tuple[Pair, ...]
    _ranks: dict[Pair, int] = field(init=False, repr=False, compare=False)
    _known: dict[str, list[int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Note the symbol of each pair."""
        object.__setattr__(self, "_ranks", {pair: _FIRST + place for place, pair in enumerate(self.pairs)})

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int) -> BytePairs:
        """Return the pairs that occur most, until there are `vocabulary` symbols or no pair occurs twice."""
        return cls(pairs=tuple(learn_pairs(count_chunks(texts), vocabulary - _FIRST)))

    @property
    def vocabulary(self) -> int:
        """Number of symbols, padding included."""
        return _FIRST + len(self.pairs)

    def encode(self, text: str) -> NDArray[np.uint16]:
        """Return the symbols of a text; characters that are not in the alphabet are dropped."""
        found: list[int] = []
        for chunk in split_chunks(text):
            if chunk not in self._known:
                self._known[chunk] = self._join(_characters(chunk))
            found += self._known[chunk]
        return np.array(found, np.uint16)

    def decode(self, symbols: NDArray[np.uint16]) -> str:
        """Return the text of symbols; padding has none."""
        texts = ["", *ALPHABET]
        for left, right in self.pairs:
            texts.append(texts[left] + texts[right])
        return "".join(texts[symbol] for symbol in symbols)

    def _join(self, symbols: list[int]) -> list[int]:
        """Return a chunk with its pairs joined, those that were learnt first before others."""
        while True:
            ranks = [self._ranks.get(pair) for pair in pairwise(symbols)]
            first = min((rank for rank in ranks if rank is not None), default=None)
            if first is None:
                return symbols
            symbols = join(symbols, self.pairs[first - _FIRST], first)


def split_chunks(text: str) -> list[str]:
    """Return the pieces of a text that are encoded by themselves."""
    return _CHUNKS.findall("".join(ALPHABET[symbol] for symbol in encode(text)))


def count_chunks(texts: Iterable[str]) -> Counter[str]:
    """Return how often each chunk occurs in some texts."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_chunks(text))
    return counts


def join(symbols: list[int], pair: Pair, joined: int) -> list[int]:
    """Return symbols with each `pair` of neighbours, from left to right, as the one symbol `joined`."""
    result: list[int] = []
    for symbol in symbols:
        # Not where the left one is itself joined just now: a joined symbol is new, so it is no part of the pair.
        if result and (result[-1], symbol) == pair:
            result[-1] = joined
        else:
            result.append(symbol)
    return result


def learn_pairs(counts: Counter[str], most: int) -> list[Pair]:
    """Return at most `most` pairs in the order in which they are joined, as long as one occurs twice.

    Only the chunks that have the pair are looked at again. The queue keeps outdated entries, which are thrown away when
    they come first.
    """
    chunks = [(_characters(chunk), count) for chunk, count in sorted(counts.items())]
    totals: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for place, (symbols, count) in enumerate(chunks):
        for pair in pairwise(symbols):
            totals[pair] += count
            where[pair].add(place)
    queue = [(-total, pair) for pair, total in totals.items()]
    heapq.heapify(queue)
    learnt: list[Pair] = []
    while queue and len(learnt) < most:
        total, pair = heapq.heappop(queue)
        if -total != totals[pair] or -total < 2:
            continue
        learnt.append(pair)
        changed = _replace(chunks, sorted(where.pop(pair)), pair, _FIRST + len(learnt) - 1, totals, where)
        for each in changed:
            heapq.heappush(queue, (-totals[each], each))
    return learnt


def _replace(
    chunks: list[tuple[list[int], int]],
    places: list[int],
    pair: Pair,
    joined: int,
    totals: Counter[Pair],
    where: defaultdict[Pair, set[int]],
) -> set[Pair]:
    """Join a pair in some chunks; return the pairs whose total changed."""
    changed: set[Pair] = set()
    for place in places:
        symbols, count = chunks[place]
        after = join(symbols, pair, joined)
        chunks[place] = after, count
        for old in pairwise(symbols):
            totals[old] -= count
            changed.add(old)
        for new in pairwise(after):
            totals[new] += count
            where[new].add(place)
            changed.add(new)
    return changed


def _characters(chunk: str) -> list[int]:
    return [symbol + 1 for symbol in encode(chunk).tolist()]
