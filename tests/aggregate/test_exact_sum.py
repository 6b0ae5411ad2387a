"""The exact sum against exact rational arithmetic, over any placement, at its limits, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.made import as_bits
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.aggregate import exact
from hpcfsl.aggregate.exact import BLOCK, exact_sum, exact_weighted_sum
from hpcfsl.native import columns
from hpcfsl.parallel.communicator import SerialCommunicator

RANKS = (1, 2, 3, 4, 8)
LEAST = Fraction(1, 2**900)
TOP = float(np.finfo(np.float32).max)

SMALL = 8  # coordinates of a block where a test draws every number itself
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
magnitudes = st.sampled_from([0.0, 1e-310, 1e-45, 1e-38, 1e-30, 1e-12, 1.0, 3.0, 1e12, 1e30])
numbers = st.builds(lambda size, part: size * part, magnitudes, st.floats(-1, 1))


@pytest.fixture(params=["kernels", "numpy"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each of the two ways that there are."""
    if request.param == "numpy":
        monkeypatch.setattr(columns, "available", lambda: False)
    elif not columns.available():
        pytest.skip("the kernels were not built")


def mixed_terms(seed: int, count: int, size: int) -> list[np.ndarray]:
    """Return terms whose magnitudes run from 1e-30 to 1e30, in blocks and within them."""
    rng = np.random.default_rng(seed)
    blocks = 10.0 ** np.repeat(rng.uniform(-30, 30, -(-size // BLOCK)), BLOCK)[:size]
    return [
        rng.normal(size=size) * blocks * 10.0 ** rng.uniform(-12, 0, size) * (rng.random(size) > 0.05)
        for _ in range(count)
    ]


def alone(terms: list[np.ndarray], size: int, planned: int, block: int = BLOCK) -> torch.Tensor:
    tensors = [torch.from_numpy(term) for term in terms]
    return exact_sum(tensors, size=size, planned_groups=planned, communicator=SerialCommunicator(), block=block)


def weighted(rows: list[np.ndarray], factors: list[float], planned: int) -> torch.Tensor:
    tensors, size = [torch.from_numpy(row) for row in rows], len(rows[0])
    return exact_weighted_sum(tensors, factors, size=size, planned_groups=planned, communicator=SerialCommunicator())


def check_bound(found: np.ndarray, terms: list[np.ndarray], planned: int, block: int, places: np.ndarray) -> None:
    """Hold a sum to the bound that the module states, in exact arithmetic, at some places."""
    headroom = (planned - 1).bit_length()
    for place in places.tolist():
        first = place // block * block
        largest = max(
            (Fraction(float(np.abs(term[first : first + block]).max())) for term in terms), default=Fraction(0)
        )
        power = LEAST  # the least power of two that is above every magnitude of the block
        while power <= largest:
            power *= 2
        exact_value = sum((Fraction(float(term[place])) for term in terms), Fraction(0))
        integer_bound = planned * power * Fraction(2) ** (headroom - 63)
        rounding = (abs(exact_value) + integer_bound) * Fraction(1, 2**53)
        assert abs(Fraction(float(found[place])) - exact_value) <= integer_bound + rounding


class TestAgainstFractions:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), spare=st.integers(0, 7), size=st.integers(1, 3))
    def test_within_the_stated_bound(self, seed: int, count: int, spare: int, size: int) -> None:
        length = (size - 1) * BLOCK + 70
        terms = mixed_terms(seed, count, length)
        found = alone(terms, length, count + spare).numpy()
        places = np.random.default_rng(seed).integers(0, length, 60)
        check_bound(found, terms, count + spare, BLOCK, places)

    @quick
    @given(
        st.integers(0, 12).flatmap(
            lambda count: st.lists(st.lists(numbers, min_size=20, max_size=20), min_size=count, max_size=count)
        ),
        st.integers(0, 5),
    )
    def test_any_numbers_in_small_blocks(self, drawn: list[list[float]], spare: int) -> None:
        terms, planned = [np.array(row) for row in drawn], max(1, len(drawn) + spare)
        found = alone(terms, 20, planned, block=SMALL).numpy()
        check_bound(found, terms, planned, SMALL, np.arange(20))

    @quick
    @given(
        st.lists(st.tuples(st.floats(-TOP, TOP, width=32), st.floats(-4, 4)), min_size=1, max_size=9),
        st.sampled_from([1e-30, 1e-38, 1.0]),
    )
    def test_weighted_rows_of_float32(self, path: None, drawn: list[tuple[float, float]], scale: float) -> None:
        rows = [np.array([value, value * scale, np.float32(1e-45)], np.float32) for value, _ in drawn]
        factors = [factor for _, factor in drawn]
        # The term is the product as a float64 has it: its one rounding is part of the term, not of the sum.
        terms = [row.astype(float) * factor for row, factor in zip(rows, factors, strict=True)]
        found = weighted(rows, factors, len(rows)).numpy()
        check_bound(found, terms, len(rows), BLOCK, np.arange(3))

    @quick
    @given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 20))
    def test_what_cancels_leaves_exactly_nothing(self, path: None, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        rows = [(rng.normal(size=50) * 10.0 ** rng.uniform(-30, 30, 50)).astype(np.float32) for _ in range(count)]
        order = rng.permutation(2 * count)
        both, factors = [*rows, *rows], [0.3] * count + [-0.3] * count
        found = weighted([both[i] for i in order], [factors[i] for i in order], 2 * count)
        assert found.tolist() == [0.0] * 50

    def test_a_sum_that_fits_is_exact(self, path: None) -> None:
        """Terms on the grid are not rounded at all: thirds of a power of two, whose sum has 55 bits."""
        rows = [np.array([2.0**24 - 1, 2.0**-30], np.float32), np.array([2.0**-29, -(2.0**-31)], np.float32)]
        assert weighted(rows, [1.0, 1.0], 2).tolist() == [2.0**24 - 1 + 2.0**-29, 2.0**-31]

    def test_small_coordinates_survive_beside_a_block_of_large_ones(self, path: None) -> None:
        term = np.concatenate([np.full(BLOCK, 1e30), np.full(BLOCK, 1e-30)]).astype(np.float32)
        np.testing.assert_allclose(weighted([term, term], [1.0, 1.0], 2), 2 * term.astype(float), rtol=1e-15)


class TestPlacement:
    @pytest.mark.parametrize("ranks", RANKS)
    @settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(seed=st.integers(0, 2**32 - 1), spare=st.integers(0, 3))
    def test_same_bits_for_any_placement_and_order(self, path: None, ranks: int, seed: int, spare: int) -> None:
        size, count = BLOCK + 123, 7
        rng = np.random.default_rng(seed)
        rows = [term.astype(np.float32) for term in mixed_terms(seed, count, size)]
        factors = rng.normal(size=count).tolist()
        wanted = as_bits(weighted(rows, factors, count + spare))
        home, order = rng.integers(0, ranks, count), rng.permutation(count).tolist()

        def action(communicator: ThreadCommunicator) -> torch.Tensor:
            mine = [term for term in order if home[term] == communicator.rank]
            return exact_weighted_sum(
                [torch.from_numpy(rows[term]) for term in mine],
                [factors[term] for term in mine],
                size=size,
                planned_groups=count + spare,
                communicator=communicator,
            )

        assert [as_bits(total) for total in on_ranks(ranks, action)] == [wanted] * ranks

    def test_the_two_ways_and_any_pieces_have_the_same_bits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        size = 5 * BLOCK + 17
        rows, factors = [term.astype(np.float32) for term in mixed_terms(3, 4, size)], [0.1, -2.0, 1e-20, 7.0]
        found = {as_bits(weighted(rows, factors, 6))}
        found.add(as_bits(alone([row * factor for row, factor in zip(_doubles(rows), factors, strict=True)], size, 6)))
        for piece in (BLOCK, 2 * BLOCK):
            monkeypatch.setattr(exact, "PIECE", piece)
            found.add(as_bits(weighted(rows, factors, 6)))
        monkeypatch.setattr(columns, "available", lambda: False)
        found.add(as_bits(weighted(rows, factors, 6)))
        assert len(found) == 1

    @quick
    @given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 7), dropped=st.integers(1, 6))
    def test_a_dropped_group_adds_nothing_and_changes_no_other_rounding(
        self, path: None, seed: int, count: int, dropped: int
    ) -> None:
        rows = [term.astype(np.float32) for term in mixed_terms(seed, count, 50)]
        kept = rows[: max(1, count - dropped)]
        factors = np.random.default_rng(seed).normal(size=count).tolist()
        absent = weighted(kept, factors[: len(kept)], count)
        zeros = [np.zeros(50, np.float32)] * (count - len(kept))
        assert as_bits(absent) == as_bits(weighted([*kept, *zeros], factors, count))
        # What the others add is the same whoever is there: the sum of all less the sum of those that drop out, where
        # both have the same scale.
        scale = np.full(50, 8 * np.abs(np.array(rows) * np.array(factors)[:, None]).max(), np.float32)
        with_scale = [
            weighted([scale, *some], [1.0, *its], count + 1) for some, its in _splits(rows, factors, len(kept))
        ]
        whole, first, rest = (found - torch.from_numpy(scale).double() for found in with_scale)
        np.testing.assert_allclose(whole, first + rest, atol=float(scale[0]) * 2.0**-50)

    def test_no_terms_and_all_zero_terms_sum_to_zero(self) -> None:
        assert alone([], 5, 3).tolist() == [0.0] * 5
        assert alone([np.zeros(5), -np.zeros(5)], 5, 3).tolist() == [0.0] * 5


class TestLimits:
    @pytest.mark.parametrize("planned", [1, 2, 3, 4, 5, 8, 9, 16, 17, 1000, 1024, 1025, 4097])
    @pytest.mark.parametrize("top", [np.nextafter(2.0, 0), 1.0, -1.0, -np.nextafter(2.0, 0)])
    def test_all_terms_at_the_top_do_not_overflow(self, planned: int, top: float) -> None:
        """The worst there is: as many terms as planned, all as large as the scale of their block admits."""
        found = alone([np.full(3, top)] * planned, 3, planned)
        check_bound(found.numpy(), [np.full(3, top)] * planned, planned, BLOCK, np.array([0]))
        assert (found > 0).all() if top > 0 else (found < 0).all()

    @pytest.mark.parametrize("planned", [1, 2, 3, 33, 2049])
    def test_nor_do_the_largest_float32(self, path: None, planned: int) -> None:
        row = np.array([TOP, -TOP, np.finfo(np.float32).tiny], np.float32)
        found = weighted([row] * planned, [1.0] * planned, planned)
        np.testing.assert_allclose(found[:2], [planned * TOP, -planned * TOP], rtol=1e-15)

    def test_the_integers_themselves_stay_in_range(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Add up in Python's unlimited integers what the ranks would add in 64 bits."""
        seen: list[int] = []

        class Wide(SerialCommunicator):
            def sum_in_place(self, values: np.ndarray) -> None:
                seen.append(int(values[0]))

        for planned in (1, 2, 3, 4, 1000, 2**20, 2**20 + 1):
            term = [torch.full((1,), np.nextafter(2.0, 0), dtype=torch.float64)]
            exact_sum(term, size=1, planned_groups=planned, communicator=Wide())
            assert seen.pop() * planned < 2**63

    @quick
    @given(st.floats(-1.0, 1.0), st.integers(1, 300))
    def test_equal_terms_add_up_to_their_number(self, path: None, value: float, count: int) -> None:
        row = np.array([value], np.float32)
        found = Fraction(weighted([row] * count, [1.0] * count, count).item())
        assert abs(found - count * Fraction(float(row[0]))) <= abs(count * Fraction(float(row[0]))) / 2**50

    def test_denormal_blocks_are_rounded_away_and_huge_ones_are_not(self) -> None:
        assert alone([np.full(2, 1e-310)], 2, 1).tolist() == [0.0, 0.0]
        np.testing.assert_allclose(alone([np.full(2, 1e300)], 2, 1), [1e300, 1e300])

    def test_rounded_to_float32_at_the_end(self, path: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(exact, "PIECE", BLOCK)
        rows = [term.astype(np.float32) for term in mixed_terms(2, 3, 2 * BLOCK + 5)]
        rows[0][:2] = rows[1][:2] = TOP, -TOP  # together beyond float32
        rounded = exact_weighted_sum(
            [torch.from_numpy(row) for row in rows],
            [1.0, 1.0, -0.3],
            size=len(rows[0]),
            planned_groups=4,
            communicator=SerialCommunicator(),
            single=True,
        )
        assert as_bits(rounded) == as_bits(weighted(rows, [1.0, 1.0, -0.3], 4).float())
        assert rounded[:2].tolist() == [np.inf, -np.inf]

    def test_denormal_rows_of_float32_are_kept(self, path: None) -> None:
        row = np.array([1e-45, -1e-42, 0.0], np.float32)
        assert weighted([row, row], [1.0, 1.0], 3).tolist() == (2 * row.astype(float)).tolist()


BAD: dict[str, Callable[[], tuple[list[float], float]]] = {
    "nan": lambda: ([1.0, np.nan], 1.0),
    "infinity": lambda: ([np.inf, 1.0], 1.0),
    "minus-infinity": lambda: ([0.0, -np.inf], 1.0),
    "nan-times-zero": lambda: ([np.nan, 1.0], 0.0),
    "infinite-factor": lambda: ([0.0, 1.0], np.inf),
    "nan-factor": lambda: ([1.0, 1.0], np.nan),
    "overflow": lambda: ([TOP, 1.0], 1e300),
}


class TestRefusals:
    @pytest.mark.parametrize("ranks", [1, 3])
    @pytest.mark.parametrize("bad", BAD)
    def test_one_ranks_bad_term_is_refused_by_all(self, path: None, bad: str, ranks: int) -> None:
        values, factor = BAD[bad]()

        def action(communicator: ThreadCommunicator) -> str:
            last = communicator.rank == ranks - 1
            row = torch.tensor(values if last else [1.0, 2.0])
            with pytest.raises(ValueError, match="finite terms only") as refused:
                exact_weighted_sum(
                    [row], [factor if last else 1.0], size=2, planned_groups=ranks, communicator=communicator
                )
            return str(refused.value)

        assert len(on_ranks(ranks, action)) == ranks

    def test_more_terms_than_planned_are_refused_by_all(self, path: None) -> None:
        def action(communicator: ThreadCommunicator) -> str:
            rows = [torch.ones(2)] * (1 + communicator.rank)
            with pytest.raises(ValueError, match="5 planned terms was given 6") as refused:
                exact_weighted_sum(rows, [1.0] * len(rows), size=2, planned_groups=5, communicator=communicator)
            return str(refused.value)

        assert len(on_ranks(3, action)) == 3

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_lone_term_of_float64(self, bad: float) -> None:
        with pytest.raises(ValueError, match="finite terms only"):
            alone([np.array([1.0, bad])], 2, 1)


def _doubles(rows: list[np.ndarray]) -> list[np.ndarray]:
    return [row.astype(float) for row in rows]


def _splits(rows: list[np.ndarray], factors: list[float], kept: int) -> list[tuple[list[np.ndarray], list[float]]]:
    return [(rows, factors), (rows[:kept], factors[:kept]), (rows[kept:], factors[kept:])]
