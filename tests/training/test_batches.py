from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.training.batches import _orders as shuffle_obviously
from hpcfsl.training.batches import epoch_orders, num_steps

counts_lists = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def orders(counts: list[int], clients: list[int], *, seed: int = 1, round: int = 0, epoch: int = 0) -> np.ndarray:
    return epoch_orders(np.array(counts), seed=seed, round=round, clients=np.array(clients), epoch=epoch)


@given(counts_lists, st.integers(0, 2**32 - 1))
def test_every_sample_once_an_epoch_then_nothing(counts: list[int], seed: int) -> None:
    found = orders(counts, list(range(len(counts))), seed=seed)
    assert found.shape == (len(counts), max(counts))
    for row, count in zip(found, counts, strict=True):
        assert sorted(row[:count].tolist()) == list(range(count))
        assert (row[count:] == -1).all()


@given(counts_lists)
def test_a_clients_order_does_not_depend_on_its_company(counts: list[int]) -> None:
    clients = [7 * row + 3 for row in range(len(counts))]
    together = orders(counts, clients)
    for row, (count, client) in enumerate(zip(counts, clients, strict=True)):
        assert orders([count], [client])[0].tolist() == together[row, :count].tolist()


def test_orders_are_keyed_by_seed_round_client_and_epoch() -> None:
    wanted = orders([30], [4]).tolist()
    assert orders([30], [4]).tolist() == wanted
    changed = [
        orders([30], [4], seed=2),
        orders([30], [4], round=1),
        orders([30], [4], epoch=1),
        orders([30], [5]),
    ]
    assert all(other.tolist() != wanted for other in changed)


def test_every_place_is_equally_likely() -> None:
    found = orders([6] * 6000, list(range(6000)))
    for place in range(6):
        share = np.bincount(found[:, place], minlength=6) / 6000
        np.testing.assert_allclose(share, 1 / 6, atol=0.025)


def test_number_of_steps() -> None:
    found = num_steps(np.array([1, 4, 5, 8, 9]), batch_size=4, epochs=3)
    assert found.tolist() == [3, 3, 6, 6, 9]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.integers(0, 2**31))
def test_the_kernel_shuffles_as_the_obvious_version_does(counts: list[int], seed: int, client: int) -> None:
    arguments: dict[str, Any] = {"seed": seed, "round": 3, "clients": client + np.arange(len(counts)), "epoch": 2}
    wanted = shuffle_obviously(np.array(counts), **arguments)
    assert epoch_orders(np.array(counts), **arguments).tolist() == wanted.tolist()
