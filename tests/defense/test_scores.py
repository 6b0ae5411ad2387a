from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.attacks import INLIERS, area_under_curve, attacked_group
from support.made import configure, make_layout, make_scored

from hpcfsl.defense.median import coordinate_median
from hpcfsl.defense.scoring import Evidence, Score, collect_evidence, scores
from hpcfsl.defense.scoring import evidence as evidence_module
from hpcfsl.defense.scoring.score import RATIO_CAP, over_median, score_group
from hpcfsl.privacy.perturbation import row_norms

RULES = ("composite", "direction", "distance", "duplicate", "norm", "spectral")
DRAWS = range(6)


def credit_of(rule: str, updates: np.ndarray, **changes: object) -> np.ndarray:
    config = configure("hardened", score={"rule": rule, **changes})
    return make_scored(config, updates, np.ones(len(updates))).scores.credit


def random_updates(count: int, size: int = 60, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=size) + rng.normal(size=(count, size)) * rng.uniform(0.5, 2, (count, 1))).astype(np.float32)


def test_the_registered_scores() -> None:
    assert set(scores.names()) == {*RULES, "none"}


def test_without_a_rule_everybody_is_as_ordinary_as_one_can_be() -> None:
    updates = random_updates(5)
    updates[2, 7] = np.nan
    np.testing.assert_array_equal(credit_of("none", updates), [1, 1, np.inf, 1, 1])


@pytest.mark.parametrize("cosine", [0.5, 0.6, 0.7])
@pytest.mark.parametrize("attack", ["alie", "min-max", "mimic"])
def test_one_sided_distance_rewards_inliers(attack: str, cosine: float) -> None:
    areas = [
        area_under_curve(credit_of("distance", u), bad) for u, bad in (attacked_group(attack, s, cosine) for s in DRAWS)
    ]
    assert np.mean(areas) <= 0.1


def test_one_sided_distance_rewards_inner_product_manipulation_where_updates_disagree() -> None:
    # The reversed tenth of the mean lies 1.1 signals from the centre, honest clients lie as far out as their noise.
    areas = [
        area_under_curve(credit_of("distance", u), bad) for u, bad in (attacked_group("ipm", s, 0.35) for s in DRAWS)
    ]
    assert max(areas) <= 0.05


@pytest.mark.parametrize("cosine", [0.35, 0.5, 0.6, 0.7])
@pytest.mark.parametrize("attack", sorted(INLIERS))
def test_composite_tells_inlier_attacks_from_honest_clients(attack: str, cosine: float) -> None:
    # The client that `mimic` copies is the same as its copies, so 15.5 of 16 is all that a score can reach there.
    best = 1.0 if attack != "mimic" else 15.5 / 16
    for seed in DRAWS:
        updates, bad = attacked_group(attack, seed, cosine)
        assert area_under_curve(credit_of("composite", updates), bad) == pytest.approx(best)


def test_composite_misses_a_little_is_enough_with_noise_of_its_own() -> None:
    # Known limit: attackers that differ like honest clients do are no copies, and z = .25 is inside honest spread.
    areas = [
        area_under_curve(credit_of("composite", u), bad)
        for u, bad in (attacked_group("alie", s, jitter=1.0) for s in DRAWS)
    ]
    assert np.mean(areas) < 0.5


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_not_negative_and_about_1_for_ordinary_clients(rule: str) -> None:
    for count in (2, 3, 8, 25):
        credit = credit_of(rule, random_updates(count, seed=count))
        assert (credit >= 0).all()
        assert np.isfinite(credit).all()
        assert 0.8 <= np.median(credit) <= 2.5


@pytest.mark.parametrize("rule", RULES)
def test_scores_do_not_depend_on_the_order_of_clients_or_the_unit_of_updates(rule: str) -> None:
    updates = random_updates(9, seed=5)
    order = np.random.default_rng(1).permutation(9)
    wanted = credit_of(rule, updates)
    np.testing.assert_allclose(credit_of(rule, updates[order]), wanted[order], rtol=1e-6)
    np.testing.assert_allclose(credit_of(rule, updates * np.float32(2.0**20)), wanted, rtol=1e-6)


def test_single_scores_against_brute_force() -> None:
    updates = random_updates(8, seed=3)
    rows = updates.astype(np.float64)
    center = np.median(rows, axis=0)
    distance = np.linalg.norm(rows - center, axis=1)
    np.testing.assert_allclose(credit_of("distance", updates), distance / np.median(distance), rtol=1e-6)
    cosine = rows @ center / np.linalg.norm(rows, axis=1) / np.linalg.norm(center)
    np.testing.assert_allclose(credit_of("direction", updates), (1 - cosine) / np.median(1 - cosine), rtol=1e-5)
    norms = np.linalg.norm(rows, axis=1)
    ratio = norms / np.median(norms)
    np.testing.assert_allclose(credit_of("norm", updates), np.maximum(ratio, 1 / ratio), rtol=1e-6)
    nearest = [min(np.linalg.norm(a - b) for j, b in enumerate(rows) if j != i) for i, a in enumerate(rows)]
    np.testing.assert_allclose(credit_of("duplicate", updates), np.median(nearest) / nearest, rtol=1e-6)
    centred = rows - rows.mean(axis=0)
    projection = (centred @ np.linalg.svd(centred)[2][0]) ** 2
    np.testing.assert_allclose(credit_of("spectral", updates), projection / np.median(projection), rtol=1e-6)


def test_composite_is_the_largest_of_its_components() -> None:
    config = configure("hardened")
    found = make_scored(config, random_updates(8), np.ones(8)).scores
    assert config.score.component_names == ("distance", "direction", "norm", "duplicate")
    assert found.components.shape == (8, 4)
    np.testing.assert_array_equal(found.credit, found.components.max(axis=1))
    np.testing.assert_allclose(np.median(found.components, axis=0), 1.0)


@pytest.mark.parametrize("rule", ["composite", "distance", "norm"])
def test_raising_the_norm_of_an_outlier_raises_its_score(rule: str) -> None:
    updates = random_updates(9, seed=2)
    credits = []
    for factor in (10, 100, 1000):
        scaled = updates.copy()
        scaled[4] *= factor
        credits.append(credit_of(rule, scaled)[4])
    assert credits[0] < credits[1] < credits[2]


def test_one_outlier_alone_stretches_the_spectral_score_to_the_square_of_the_others() -> None:
    updates = random_updates(9, seed=2)
    updates[4] *= 1e6
    assert credit_of("spectral", updates)[4] == pytest.approx(64, rel=1e-3)


def test_the_norm_before_the_clip_is_what_is_scored() -> None:
    config = configure("hardened", score={"rule": "norm"})
    clipped = np.ones((5, 4), np.float32)
    norms = np.array([1.0, 1, 1, 1, 10])
    found = score_group(config.score, torch.from_numpy(clipped), norms, np.full(5, np.nan), make_layout(4))
    assert found.credit.tolist() == [1, 1, 1, 1, 10]


@pytest.mark.parametrize(("half", "columns"), [("client", slice(0, 20)), ("server", slice(20, 60))])
def test_one_half_can_be_scored_alone(half: str, columns: slice) -> None:
    config = configure("hardened", score={"rule": "distance", "half": half})
    updates, changed = random_updates(6), random_updates(6)
    other = slice(20, 60) if half == "client" else slice(0, 20)
    changed[:, other] = 7 * random_updates(6, seed=9)[:, other]
    layout, norms, nothing = make_layout(60, 20), np.ones(6), np.full(6, np.nan)
    first, second = (score_group(config.score, torch.from_numpy(u), norms, nothing, layout) for u in (updates, changed))
    np.testing.assert_array_equal(first.credit, second.credit)
    # A NaN in the half that is not scored still has no part in the round.
    changed[3, other] = np.nan
    norms = row_norms(torch.from_numpy(changed)).numpy()
    spoilt = score_group(config.score, torch.from_numpy(changed), norms, nothing, layout)
    assert spoilt.credit[3] == np.inf


def test_memory_mixes_in_the_last_credit_score_of_those_who_have_one() -> None:
    config = configure("hardened", score={"rule": "distance", "memory": 0.25})
    updates = torch.from_numpy(random_updates(4))
    updates[3] = np.nan
    norms = row_norms(updates).numpy()
    fresh = score_group(config.score, updates, norms, np.full(4, np.nan), make_layout(60)).credit
    mixed = score_group(config.score, updates, norms, np.array([5.0, np.nan, 0.0, 2.0]), make_layout(60)).credit
    np.testing.assert_allclose(mixed[:3], [0.75 * fresh[0] + 1.25, fresh[1], 0.75 * fresh[2]])
    assert mixed[3] == np.inf


def test_everybody_non_finite_leaves_nobody_to_score() -> None:
    assert credit_of("composite", np.full((3, 5), np.nan)).tolist() == [np.inf] * 3


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=12))
def test_ratios_to_the_median_are_finite_and_capped(values: list[float]) -> None:
    ratios = over_median(np.array(values))
    assert ((ratios >= 0) & (ratios <= RATIO_CAP)).all()
    if max(values) == 0:
        assert (ratios == 1).all()


def test_a_zero_median_marks_whoever_differs() -> None:
    assert over_median(np.array([0.0, 0, 0, 2])).tolist() == [1, 1, 1, RATIO_CAP]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, 0.0])
def test_norms_are_finite_for_all_but_rows_with_bad_numbers(value: float) -> None:
    updates = torch.ones(3, 500)
    updates[1, 499] = value
    assert torch.isfinite(row_norms(updates)).tolist() == [True, bool(np.isfinite(value)), True]


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_coordinate_median(count: int) -> None:
    updates = random_updates(count)
    wanted = np.median(updates.astype(np.float64), axis=0)
    np.testing.assert_allclose(coordinate_median(torch.from_numpy(updates)), wanted, rtol=1e-6, atol=1e-7)


def test_coordinate_median_of_huge_numbers_does_not_overflow() -> None:
    assert torch.isfinite(coordinate_median(torch.full((2, 3), 3e38))).all()


def test_evidence_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    updates, norms = torch.from_numpy(random_updates(5, 1000)), np.ones(5)
    whole = collect_evidence(updates, norms)
    monkeypatch.setattr(evidence_module, "BLOCK", 64)
    pieces = collect_evidence(updates, norms)
    np.testing.assert_allclose(pieces.gram, whole.gram, rtol=1e-9)
    np.testing.assert_allclose(pieces.center_cosines, whole.center_cosines, rtol=1e-9)
    np.testing.assert_allclose(pieces.pair_distances, whole.pair_distances, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pieces.center_distances, whole.center_distances, rtol=1e-9)


def test_cosine_of_a_zero_update_is_0() -> None:
    rows = np.vstack([np.zeros(4), np.ones((3, 4))]).astype(np.float32)
    assert collect_evidence(torch.from_numpy(rows), np.ones(4)).center_cosines.tolist() == [0, 1, 1, 1]


def test_copies_are_at_distance_0_whatever_rounding_leaves() -> None:
    # Chains of copies: more than half of the clients have one, so the usual nearest neighbour is at distance 0.
    for seed in range(30):
        updates = random_updates(7, 200, seed=seed)
        updates[[1, 3, 5]] = updates[[0, 2, 4]]
        pairs = collect_evidence(torch.from_numpy(updates), np.ones(7)).pair_distances
        assert pairs[0, 1] == pairs[2, 3] == pairs[4, 5] == 0
        assert (pairs[6, :6] > 0).all()
        np.testing.assert_array_equal(credit_of("duplicate", updates), np.ones(7))


def test_huge_updates_are_scored_without_overflow() -> None:
    updates = random_updates(7)
    updates[2] = 1e30
    credit = credit_of("composite", updates)
    assert credit[2] == RATIO_CAP
    assert np.isfinite(credit).all()


def test_a_score_without_measure_says_so() -> None:
    class Nameless(Score):
        rule: str = "nameless"

    evidence = Evidence(center_norm=1, norms=np.ones(2), lengths=np.ones(2), center_products=np.ones(2), gram=np.eye(2))
    assert Nameless().component_names == ("nameless",)
    with pytest.raises(AssertionError, match="defines measure"):
        Nameless().measure(evidence)
