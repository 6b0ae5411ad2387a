"""The world of a run: made fast for any population; who attacks when."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.made import small_config, small_world

SMALL = small_world(small_config())


def test_twenty_million_clients_are_ready_fast_and_small() -> None:
    config = small_config(
        partition={"rule": "drawing", "clients": 20_000_000},
        participation={"rule": "number", "clients": 10_000},
        groups={"number": 500},
        threat={"attack": "sign-flip", "clients": 10_000},
    )
    tracemalloc.start()
    began = time.perf_counter()
    world = small_world(config)
    members = config.participation.draw(world.population.num_clients, 1, 7)
    groups = config.groups.divide(members, samples=world.population.train_counts(members), seed=1, round=7)
    seconds, (_, peak_bytes) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(groups) == 500
    assert len(world.attackers) == 10_000
    assert world.mean_samples == 20
    assert seconds < 10
    assert peak_bytes < 20_000_000


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 40)), st.integers(0, 3))
def test_attackers_attack_from_the_first_round_on(attackers: set[int], clients: list[int], round: int) -> None:
    config = small_config(threat={"attack": "sign-flip", "clients": 1, "first_round": 2})
    world = type(SMALL)(**{**vars(SMALL), "config": config, "attackers": np.array(sorted(attackers), np.int64)})
    members = np.array(clients, np.int64)
    expected = np.isin(members, world.attackers)
    np.testing.assert_array_equal(world.is_ever_attacker(members), expected)
    np.testing.assert_array_equal(world.is_attacker(members, round), expected & (round >= 2))
