from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpcfsl.errors import ConfigError
from hpcfsl.parallel.device import device_of_rank
from hpcfsl.parallel.placement import place_groups

costs = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


@given(costs, st.integers(1, 12))
def test_every_group_has_a_rank_and_no_rank_is_overloaded(given_costs: list[int], ranks: int) -> None:
    work = np.array(given_costs, np.int64)
    placed = place_groups(work, ranks)
    assert placed.shape == work.shape
    assert ((placed >= 0) & (placed < ranks)).all()
    loads = np.bincount(placed, weights=work, minlength=ranks)
    # Longest first is within 4/3 of the best (Graham 1969); the best is at least these two.
    at_least = max(work.sum() / ranks, work.max(initial=0), np.sort(work)[::-1][ranks] * 2 if len(work) > ranks else 0)
    assert loads.max() <= max(4 / 3 * at_least, at_least + work.max()) + 1e-9
    assert place_groups(work, ranks).tolist() == placed.tolist()


def test_equal_groups_are_spread_evenly() -> None:
    assert np.bincount(place_groups(np.full(12, 7), 4)).tolist() == [3, 3, 3, 3]


def test_more_ranks_than_groups_leave_some_without() -> None:
    assert len(set(place_groups(np.array([5, 3]), 8).tolist())) == 2


def test_a_long_group_has_a_rank_of_its_own() -> None:
    placed = place_groups(np.array([1, 1, 100, 1]), 2)
    assert (placed == placed[2]).sum() == 1


@pytest.fixture
def _settings_restored() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


@pytest.mark.usefixtures("_settings_restored")
def test_ranks_of_a_node_share_its_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(device_of_rank("auto", rank)) for rank in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert str(device_of_rank("cuda", 3)) == "cuda:1"
    assert torch.are_deterministic_algorithms_enabled()
    assert str(device_of_rank("cpu", 1)) == "cpu"


@pytest.mark.usefixtures("_settings_restored")
def test_tf32_is_used_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for tf32 in (True, False):
        device_of_rank("auto", 0, tf32=tf32)
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32


def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(device_of_rank("auto", 0)) == "cpu"
    with pytest.raises(ConfigError, match=r"run\.device = 'cuda': no CUDA device"):
        device_of_rank("cuda", 0)
