from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.seeding import (
    Purpose,
    key_of,
    philox,
    random_key,
    random_normal,
    random_permutation,
    random_uniform,
    random_words,
)

word = st.integers(0, 2**32 - 1)
ONES = 0xFFFFFFFF
# Known answers of Philox4x32-10 from Random123 (Salmon et al., SC 2011), kat_vectors.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def slow_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Return Philox4x32-10 in Python's own integers."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q & ONES, (p >> 32) ^ d ^ m, p & ONES
        k, m = (k + 0x9E3779B9) & ONES, (m + 0xBB67AE85) & ONES
    return a, b, c, d


@pytest.mark.parametrize(("counter", "key", "wanted"), KNOWN)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_known_answers(kind: str, counter: tuple[int, ...], key: tuple[int, int], wanted: tuple[int, ...]) -> None:
    make = (lambda value: np.array([value], np.int64)) if kind == "numpy" else (lambda value: torch.tensor([value]))
    assert tuple(int(part[0]) for part in philox(tuple(map(make, counter)), key)) == wanted  # type: ignore[arg-type]
    assert slow_philox(counter, key) == wanted


@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_numpy_and_torch_give_the_integers_of_exact_arithmetic(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> None:
    wanted = slow_philox(counter, key)
    arrays = philox(tuple(np.array([value], np.int64) for value in counter), key)  # type: ignore[arg-type]
    tensors = philox(tuple(torch.tensor([value]) for value in counter), key)  # type: ignore[arg-type]
    assert tuple(int(part[0]) for part in arrays) == wanted
    assert tuple(int(part[0]) for part in tensors) == wanted


def test_purposes_are_never_renumbered() -> None:
    assert [purpose.value for purpose in Purpose] == list(range(1, len(Purpose) + 1))
    assert key_of(2**32 - 1, Purpose.PARTITION) == (2**32 - 1, 1)


@given(word, st.integers(0, 2**31), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4), st.integers(1, 30))
def test_words_of_one_entity_do_not_depend_on_the_others(
    seed: int, round: int, entities: list[int], count: int
) -> None:
    together = random_words(seed, Purpose.THREAT, round=round, entity=np.array(entities), count=count)
    assert together.shape == (len(entities), count)
    assert together.dtype == np.int64
    for row, entity in enumerate(entities):
        alone = random_words(seed, Purpose.THREAT, round=round, entity=entity, count=count)
        np.testing.assert_array_equal(alone, together[row])
        blocks = [slow_philox((block, 0, entity, round), (seed, Purpose.THREAT)) for block in range(-(-count // 4))]
        assert alone.tolist() == [value for block in blocks for value in block][:count]


def test_every_part_of_the_key_has_a_stream_of_its_own() -> None:
    base = {"round": 1, "entity": 2, "count": 8, "lane": 3}
    words = [random_words(5, Purpose.GROUPING, **base), random_words(6, Purpose.GROUPING, **base)]
    words += [random_words(5, Purpose.THREAT, **base)]
    words += [random_words(5, Purpose.GROUPING, **{**base, part: 9}) for part in ("round", "entity", "lane")]
    assert len({tuple(each.tolist()) for each in words}) == len(words)
    longer = random_words(5, Purpose.GROUPING, **{**base, "count": 80})
    assert longer[:8].tolist() == words[0].tolist()


def test_entities_of_any_shape() -> None:
    entities = np.arange(6).reshape(2, 3)
    assert random_words(0, Purpose.SKETCH, round=0, entity=entities, count=5).shape == (2, 3, 5)


def test_words_are_even_in_every_bit() -> None:
    words = random_words(1, Purpose.SKETCH, round=0, entity=0, count=100_000)
    assert words.min() >= 0
    assert words.max() < 2**32
    for bit in range(32):
        assert ((words >> bit) & 1).mean() == pytest.approx(0.5, abs=0.01)


def test_uniform_numbers_are_uniform() -> None:
    numbers = random_uniform(1, Purpose.SKETCH, round=0, entity=0, count=100_000)
    assert numbers.min() > 0
    assert numbers.max() < 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.005)
    assert numbers.var() == pytest.approx(1 / 12, abs=0.002)
    largest_gap = np.abs(np.sort(numbers) - (np.arange(100_000) + 0.5) / 100_000).max()
    assert largest_gap < 1.95 / 100_000**0.5  # Kolmogorov and Smirnov, at one in a thousand
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.015


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_normal_numbers_of_any_count_begin_alike(count: int) -> None:
    many = random_normal(1, Purpose.SKETCH, round=0, entity=np.arange(3), count=20)
    found = random_normal(1, Purpose.SKETCH, round=0, entity=np.arange(3), count=count)
    np.testing.assert_array_equal(found, many[:, :count])


def test_normal_numbers_are_normal() -> None:
    numbers = random_normal(1, Purpose.SKETCH, round=0, entity=0, count=200_000)
    assert numbers.mean() == pytest.approx(0, abs=0.01)
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert (numbers**3).mean() == pytest.approx(0, abs=0.05)
    assert (numbers**4).mean() == pytest.approx(3, abs=0.1)
    assert np.isfinite(numbers).all()
    assert abs(np.corrcoef(numbers[0::2], numbers[1::2])[0, 1]) < 0.015


@given(word, st.integers(0, 200))
def test_permutations_hold_every_place_once(seed: int, size: int) -> None:
    found = random_permutation(seed, Purpose.GROUPING, round=3, entity=1, size=size)
    assert sorted(found.tolist()) == list(range(size))
    again = random_permutation(seed, Purpose.GROUPING, round=3, entity=1, size=size)
    np.testing.assert_array_equal(found, again)


def test_all_permutations_are_equally_likely() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for round in range(6000):
        found = tuple(random_permutation(0, Purpose.GROUPING, round=round, entity=0, size=3).tolist())
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == 6
    assert all(abs(count - 1000) < 130 for count in counts.values())


def test_keys_for_foreign_generators() -> None:
    keys = {random_key(seed, Purpose.MODEL_INIT, entity=entity) for seed in range(50) for entity in range(20)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**63 for key in keys)
    assert max(keys) > 2**62
