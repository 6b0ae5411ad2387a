"""Symbols of texts: characters, words, hashes and byte pairs, the last beside an obvious reference."""

from __future__ import annotations

import zlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.data.sources.byte_pairs import BytePairs, count_chunks, join, learn_pairs, split_chunks
from hpcfsl.data.sources.characters import ALPHABET
from hpcfsl.data.sources.tokens import (
    Characters,
    HashedWords,
    Unit,
    Words,
    fill_up,
    make_tokeniser,
    split_words,
)

TEXTS = st.lists(st.text("abAB '\n.", max_size=30), max_size=8)


def test_words() -> None:
    assert split_words("Don't stop -- it's \u00c4rger_1!\n") == (
        ["don't", "stop", "-", "-", "it's", "\u00e4rger", "_", "1", "!", "\n"]
    )
    learnt = Words.learn(["b a b c", "c b"], 4)
    assert (learnt.numbers, learnt.vocabulary) == ({"b": 2, "c": 3}, 4)
    assert learnt.encode("B x c a").tolist() == [2, 1, 3, 1]


def test_ties_of_words_are_in_alphabetical_order() -> None:
    assert Words.learn(["d c b a"], 128).numbers == {"a": 2, "b": 3, "c": 4, "d": 5}


def test_hashes_are_never_padding_and_need_no_training() -> None:
    tokeniser = make_tokeniser("hashed-word", 128, [])
    assert isinstance(tokeniser, HashedWords)
    words = [f"w{number}" for number in range(2000)]
    symbols = tokeniser.encode(" ".join(words))
    assert symbols.tolist() == [1 + zlib.crc32(word.encode()) % 127 for word in words]
    assert (symbols.min(), symbols.max()) == (1, 127)


def test_characters_leave_room_for_padding() -> None:
    tokeniser = make_tokeniser("character", 128, [])
    assert tokeniser.vocabulary == len(ALPHABET) + 1
    assert tokeniser.encode("\n ~\u00e4").tolist() == [1, 2, 96]
    assert (Characters(first=0).encode("\n").tolist(), Characters(first=0).vocabulary) == ([0], 96)


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 5))
def test_short_texts_are_filled_up_in_front(symbols: list[int], positions: int) -> None:
    filled = fill_up(np.array(symbols, np.uint16), positions).tolist()
    assert len(filled) == positions
    assert filled == [0] * (positions - len(symbols)) + symbols[:positions]


@pytest.mark.parametrize("unit", ["word", "byte-pair"])
def test_no_more_symbols_than_asked_for(unit: Unit) -> None:
    text = " ".join(f"word{number} word{number}" for number in range(300))
    tokeniser = make_tokeniser(unit, 150, [text])
    assert tokeniser.vocabulary == 150
    assert tokeniser.encode(text).max() < 150


def learn_slowly(counts: Counter[str], most: int) -> list[tuple[int, int]]:
    """Count all pairs anew for each one that is joined."""
    chunks = [([ALPHABET.index(character) + 1 for character in chunk], count) for chunk, count in counts.items()]
    learnt: list[tuple[int, int]] = []
    while len(learnt) < most:
        totals: Counter[tuple[int, int]] = Counter()
        for symbols, count in chunks:
            for pair in pairwise(symbols):
                totals[pair] += count
        best = min(totals, key=lambda pair: (-totals[pair], pair), default=None)
        if best is None or totals[best] < 2:
            break
        learnt.append(best)
        chunks = [(join(symbols, best, len(ALPHABET) + len(learnt)), count) for symbols, count in chunks]
    return learnt


@settings(deadline=None)
@given(TEXTS, st.integers(0, 12))
def test_pairs_are_those_of_the_slow_reference(texts: list[str], most: int) -> None:
    counts = count_chunks(texts)
    assert learn_pairs(counts, most) == learn_slowly(counts, most)


@settings(deadline=None)
@given(TEXTS, st.text("abAB '\n.\u00e4", max_size=60))
def test_a_text_comes_back_and_is_joined_in_the_order_of_learning(texts: list[str], text: str) -> None:
    tokeniser = BytePairs.learn(texts, len(ALPHABET) + 1 + 12)
    symbols = tokeniser.encode(text)
    assert tokeniser.decode(symbols) == "".join(character for character in text if character in ALPHABET)
    expected: list[int] = []
    for chunk in split_chunks(text):
        joined = [ALPHABET.index(character) + 1 for character in chunk]
        for place, pair in enumerate(tokeniser.pairs):
            joined = join(joined, pair, len(ALPHABET) + 1 + place)
        expected += joined
    assert symbols.tolist() == expected


def test_what_is_joined() -> None:
    tokeniser = BytePairs.learn(["low low lower lowest"], 100)
    assert [tokeniser.decode(symbol[None]) for symbol in tokeniser.encode("low lower")] == ["low", " low", "e", "r"]
    assert max(map(len, split_chunks("=" * 1000))) <= 33
