"""Every kernel over a group's updates against its slow counterpart, for every instruction set of this processor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.made import first_state, small_config, small_world

from hpcfsl.aggregate import exact
from hpcfsl.aggregate.exact import exact_weighted_sum
from hpcfsl.aggregate.group import _sum_rows
from hpcfsl.defense.median import network
from hpcfsl.defense.scoring.evidence import _collect_by_blocks
from hpcfsl.native import columns
from hpcfsl.native.library import instruction_set, use_instruction_set
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.privacy import perturbations
from hpcfsl.privacy.noise import add_normal_rows
from hpcfsl.privacy.perturbation import row_norms
from hpcfsl.round import Outcome, run_round
from hpcfsl.seeding import Purpose, key_of
from hpcfsl.state import State
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace import fingerprint as prints

pytestmark = pytest.mark.skipif(not columns.available(), reason="the kernels were not built")

# Below, at and past the blocks of 64, 128, 1024 and 4096 columns.
SIZES = [1, 63, 130, 1024, 4099, 8192]


@pytest.fixture(params=["base", "avx2", "avx512"], autouse=True)
def _instructions(request: pytest.FixtureRequest) -> Iterator[None]:
    best = instruction_set()
    try:
        use_instruction_set(request.param)
    except ValueError:
        pytest.skip(f"this processor has no {request.param}")
    yield
    use_instruction_set(best)


def made_rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def bad_rows(size: int) -> np.ndarray:
    rows = made_rows(5, size)
    rows[0, size // 2], rows[1, -1], rows[2, 0], rows[3] = np.nan, np.inf, 1e30, 3e38
    return rows


@pytest.mark.parametrize("size", SIZES)
def test_norms(size: int) -> None:
    rows = bad_rows(size)
    wanted = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(columns.row_norms(rows), wanted, rtol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 25, 60])
@pytest.mark.parametrize("size", SIZES)
def test_median_is_that_of_a_sort(count: int, size: int) -> None:
    rows = made_rows(count, size).round(1) + 0
    ordered, middle = np.sort(rows, axis=0), count // 2
    wanted = ordered[middle] if count % 2 else ordered[middle - 1] * np.float32(0.5) + ordered[middle] * np.float32(0.5)
    np.testing.assert_array_equal(columns.coordinate_median(rows, network(count)), wanted)


@pytest.mark.parametrize(("count", "size"), [(2, 1), (3, 63), (7, 4099), (25, 1024), (50, 130), (257, 300)])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_geometry_is_that_of_torch(count: int, size: int, scale: float) -> None:
    rows = made_rows(count, size + 5) * np.float32(scale)
    wanted = _collect_by_blocks(torch.from_numpy(rows[:, 5:]), np.ones(count))
    products, squares, gram, center = columns.geometry(rows[:, 5:], network(count))
    square = scale * scale * size
    np.testing.assert_allclose(gram, wanted.gram, rtol=1e-12, atol=1e-12 * square)
    np.testing.assert_allclose(products, wanted.center_products, rtol=1e-12, atol=1e-12 * square)
    np.testing.assert_allclose(np.sqrt(squares), wanted.lengths, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(center), wanted.center_norm, rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_weighted_sum_reads_the_chosen_rows_alone(size: int) -> None:
    rows, chosen = made_rows(9, size), np.array([0, 3, 4, 5, 7, 8])
    rows[[1, 2, 6]] = np.nan
    factors = np.random.default_rng(1).uniform(-2, 2, 6)
    wanted = _sum_rows(torch.from_numpy(rows[chosen]), factors).numpy()
    np.testing.assert_allclose(columns.weighted_sum(rows, chosen, factors), wanted, rtol=1.2e-7, atol=1e-14)
    np.testing.assert_array_equal(columns.weighted_sum(rows, chosen[:0], factors[:0]), np.zeros(size))


@pytest.mark.parametrize("size", SIZES)
def test_noise_has_the_words_of_the_generator(size: int) -> None:
    rows, entities = np.zeros((4, size), np.float32), np.array([7, -1, 2**31 + 5, 0])
    key = key_of(3, Purpose.PERTURBATION)
    start, ones = np.full(4, 9.0), np.ones(4, np.float32)
    norms = columns.perturb_rows(rows, start, ones, 2.0, key=key, round=11, entities=entities)
    for row, entity in zip(rows, entities, strict=True):
        wanted = torch.zeros(1, size)
        if entity >= 0:
            noise = {"seed": 3, "purpose": Purpose.PERTURBATION, "round": 11, "entities": np.array([entity])}
            add_normal_rows(wanted, 2.0, **noise)
        np.testing.assert_allclose(row, wanted[0], rtol=2e-5, atol=5e-6)
    np.testing.assert_allclose(norms, np.where(entities < 0, 9.0, columns.row_norms(rows)), rtol=1e-13)


def test_perturbation_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = torch.from_numpy(bad_rows(4099))
    honest, clients = np.array([True, True, True, False, True]), np.arange(5) + 40
    rule = perturbations.parse({"rule": "gaussian", "clip": 3.0, "noise_multiplier": 0.01})

    def perturbed() -> tuple[np.ndarray, np.ndarray]:
        copy, norms = updates.clone(), row_norms(updates).numpy()
        norms = rule.perturb_in_place(copy, norms, honest=honest, clients=clients, seed=1, round=2)
        return copy.numpy(), norms

    (rows, norms), _ = perturbed(), monkeypatch.setattr(columns, "rows_of", lambda _: None)
    wanted_rows, wanted_norms = perturbed()
    np.testing.assert_allclose(rows, wanted_rows, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(norms, wanted_norms, rtol=1e-6)
    np.testing.assert_array_equal(rows[3], updates[3])


@pytest.mark.parametrize("size", SIZES)
def test_fingerprints_are_those_of_numpy(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bad_rows(size)
    found, alone = prints.fingerprint(rows, 5), [prints.hash_bits(row) for row in rows]
    monkeypatch.setattr(columns, "available", lambda: False)
    wanted = prints.fingerprint(rows, 5)
    np.testing.assert_array_equal(found.hashes, wanted.hashes)
    np.testing.assert_array_equal(found.sketches, wanted.sketches)
    assert alone == [prints.hash_bits(row) for row in rows] == wanted.hashes.tolist()


@pytest.mark.parametrize("size", [1, 4096, 10_000])
def test_exact_sums_are_those_of_numpy(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(size)
    rows = [torch.from_numpy(row) for row in made_rows(4, size) * rng.choice([1e-30, 1e-3, 1, 1e30], (4, size))]
    rows, factors = [row.float() for row in rows], [0.3, -1.7, 0.0, 1e-3]

    def total() -> torch.Tensor:
        return exact_weighted_sum(rows, factors, size=size, planned_groups=5, communicator=SerialCommunicator())

    found = total()
    monkeypatch.setattr(exact.columns, "available", lambda: False)
    assert torch.equal(found, total())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_exact_sums_take_finite_rows_only(bad: float) -> None:
    row = torch.tensor([1.0, bad, -bad])
    with pytest.raises(ValueError, match="finite terms only"):
        exact_weighted_sum([row], [1.0], size=3, planned_groups=1, communicator=SerialCommunicator())


def test_rows_out_of_reach_are_left_to_torch() -> None:
    rows = torch.zeros(4, 6)
    assert columns.rows_of(rows[:, 2:]) is not None
    assert columns.rows_of(rows[:1].expand(3, 6)) is not None
    for other in (rows.double(), rows.T, rows.to("meta")):
        assert columns.rows_of(other) is None


def test_a_round_without_kernels_is_the_same_to_float_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(
        perturbation={"rule": "gaussian", "clip": 0.05, "noise_multiplier": 0.01},
        threat={"attack": "sign-flip", "clients": 3, "scale": 20.0},
    )

    def after_a_round() -> tuple[State, Outcome]:
        world = small_world(config)
        return run_round(world, first_state(world), 0, Stopwatch())

    (state, outcome), _ = after_a_round(), monkeypatch.setattr(columns, "library", lambda: None)
    wanted_state, wanted = after_a_round()
    np.testing.assert_allclose(state.weights, wanted_state.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outcome.factors, wanted.factors, rtol=1e-4)
    for group, other in zip(outcome.groups, wanted.groups, strict=True):
        np.testing.assert_array_equal(group.exclusion.kept, other.exclusion.kept)
        np.testing.assert_allclose(group.scored.scores.components, other.scored.scores.components, rtol=1e-3)
