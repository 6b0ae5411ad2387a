"""The package and the slow numpy reference of the whole defence agree on random updates, for every preset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.made import PRESETS, configure, defend_updates

from hpcfsl.defense import reference

SPOILS = ("nothing", "nan", "infinity", "huge", "scaled", "flipped", "copies", "small")


def make_round(seed: int, sizes: list[int], spoils: list[str]) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return random updates, samples and groups; `spoils` change some clients' updates."""
    rng = np.random.default_rng(seed)
    count, size = sum(sizes), int(rng.integers(20, 400))
    noise = rng.uniform(0.2, 2.0)
    updates = rng.normal(size=size) + noise * rng.normal(size=(count, size)) * rng.uniform(0.5, 1.5, (count, 1))
    updates = (updates * 10.0 ** rng.integers(-6, 3)).astype(np.float32)
    for client, spoil in zip(rng.permutation(count), spoils, strict=False):
        other = updates[(client + 1) % count]
        updates[client] = {
            "nothing": updates[client],
            "nan": np.where(rng.random(size) < 0.1, np.nan, updates[client]),
            "infinity": np.full(size, -np.inf),
            "huge": np.full(size, 1e30) * rng.uniform(0.5, 1.0),
            "scaled": 25 * updates[client],
            "flipped": -updates[client],
            "copies": other,
            "small": 1e-3 * updates[client],
        }[spoil]
    groups = np.split(rng.permutation(count), np.cumsum(sizes)[:-1])
    return updates, rng.integers(1, 60, count), [np.sort(members) for members in groups]


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    spoils=st.lists(st.sampled_from(SPOILS), max_size=6),
)
@example(seed=316, sizes=[1, 1, 9, 3, 9], spoils=["nothing", "nothing", "huge", "nothing", "nothing", "huge"])
@example(seed=9, sizes=[7, 8], spoils=["copies", "copies", "nan", "nothing"])
@example(seed=0, sizes=[1, 1], spoils=["nan"])
def test_package_equals_the_slow_reference(preset: str, seed: int, sizes: list[int], spoils: list[str]) -> None:
    updates, samples, groups = make_round(seed, sizes, spoils)
    config = configure(preset)
    found = defend_updates(config, updates, samples, groups)
    wanted = reference.target_update(updates.astype(np.float64), samples, groups, config.tree())
    if wanted is None:
        assert found.update is None
        return
    assert found.update is not None
    # Relative to the longest group's update: where groups oppose each other, their sum may be as good as zero.
    used = [group.update.numpy().astype(float) for group in found.groups if group.update is not None]
    scale = max(np.linalg.norm(update) for update in used)
    np.testing.assert_allclose(found.update / scale, wanted / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_reference_and_package_agree_on_credit_scores(preset: str) -> None:
    config = configure(preset)
    for seed in range(20):
        updates, samples, _ = make_round(seed, [8], ["nan", "copies", "copies", "scaled", "copies"])
        found = defend_updates(config, updates, samples, [np.arange(8)]).groups[0].scored.scores.credit
        wanted = reference.credit_scores(config.score.rule, updates.astype(np.float64))
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_reference_and_package_agree_where_most_updates_are_the_same() -> None:
    updates = np.random.default_rng(0).normal(size=(7, 30)).astype(np.float32)
    updates[:5] = updates[0]
    config = configure("hardened")
    found = defend_updates(config, updates, np.ones(7), [np.arange(7)]).groups[0].scored.scores.credit
    np.testing.assert_allclose(found, reference.credit_scores("composite", updates.astype(float)), rtol=1e-5)
