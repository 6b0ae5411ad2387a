"""Which clients take part: distinct, keyed, evenly chosen, and cheap for a huge population."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.data import participation
from hpcfsl.data.participation import participations, sample_ids
from hpcfsl.errors import ConfigError
from hpcfsl.seeding import Purpose, random_uniform


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 400), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1), st.integers(0, 2**31))
def test_ids_are_distinct_ascending_and_keyed(num_clients: int, share: float, seed: int, round: int) -> None:
    count = max(1, int(share * num_clients))
    ids = sample_ids(num_clients, count, seed, round)
    assert ids.dtype == np.int64
    assert len(ids) == count
    assert (np.diff(ids) > 0).all()
    assert 0 <= ids[0] <= ids[-1] < num_clients
    np.testing.assert_array_equal(ids, sample_ids(num_clients, count, seed, round))


def test_all_takes_everyone() -> None:
    assert participations.parse({}).draw(5, 0, 3).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 5), (0.04, 1), (0.26, 3), (1.0, 10)])
def test_fraction_is_rounded_and_never_empty(fraction: float, count: int) -> None:
    assert len(participations.parse({"rule": "fraction", "fraction": fraction}).draw(10, 0, 0)) == count


def test_rounds_and_seeds_differ() -> None:
    rule = participations.parse({"rule": "number", "clients": 10})
    draws = [rule.draw(1000, seed, round) for seed, round in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(ids.tolist()) for ids in draws}) == 3


@pytest.mark.parametrize("count", [3, 8])
def test_every_client_is_equally_likely(count: int) -> None:
    hits = np.bincount(np.concatenate([sample_ids(10, count, 5, round) for round in range(3000)]), minlength=10)
    # Four standard deviations of a binomial count.
    share = count / 10
    assert np.abs(hits - 3000 * share).max() < 4 * np.sqrt(3000 * share * (1 - share))


def test_more_draws_extend_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    # An unlucky round has too few distinct ids at first; its clients are the same as with draws enough from the start.
    expected = sample_ids(100, 50, 1, 2)
    original, counts = random_uniform, []

    def short(*args: Any, count: int, **kwargs: Any) -> Any:
        counts.append(count)
        return original(*args, count=count if len(counts) > 1 else 10, **kwargs)

    monkeypatch.setattr(participation, "random_uniform", short)
    np.testing.assert_array_equal(sample_ids(100, 50, 1, 2), expected)
    assert counts == [91, 182]


def test_ten_thousand_of_twenty_million_are_drawn_quickly() -> None:
    rule = participations.parse({"rule": "number", "clients": 10_000})
    began = time.perf_counter()
    ids = rule.draw(20_000_000, 0, 0)
    assert time.perf_counter() - began < 1.0
    assert len(np.unique(ids)) == 10_000
    assert ids[-1] > 19_900_000


def test_more_clients_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"participation\.clients = 11: the population has 10 clients"):
        participations.parse({"rule": "number", "clients": 11}).draw(10, 0, 0)


@pytest.mark.parametrize(
    "tree", [{"rule": "number", "clients": 0}, {"rule": "fraction", "fraction": 0.0}, {"rule": "x"}]
)
def test_settings_out_of_bounds(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^participation\."):
        participations.parse(tree)


def test_another_purpose_draws_other_clients() -> None:
    assert not np.array_equal(sample_ids(1000, 9, 0, 0), sample_ids(1000, 9, 0, 0, Purpose.THREAT))
