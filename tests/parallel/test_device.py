"""Which device each rank takes, on nodes that are made up: names of devices stand for devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.errors import ConfigError, UserError
from hpcfsl.parallel import device
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.device import (
    choose_devices,
    describe_device,
    device_of_rank,
    find_device,
    require_own_devices,
)


def node(count: int, name: str = "node1") -> list[str]:
    """Return the names of a node's devices."""
    return [f"{name}-gpu{number}" for number in range(count)]


@dataclass
class Properties:
    uuid: str


@pytest.fixture
def _settings_restored() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, _settings_restored: None) -> pytest.MonkeyPatch:
    """Make torch believe in two devices."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties(uuid=f"GPU-{index}"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    return monkeypatch


class TestChoosing:
    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_ranks_that_see_all_devices_take_one_each(self, count: int) -> None:
        visible = [node(count)] * count
        chosen = choose_devices(visible)
        assert chosen == list(range(count))
        require_own_devices(["node1"] * count, visible, chosen)

    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_a_scheduler_that_isolates_ranks_decides(self, count: int) -> None:
        """Every rank sees one device, which is number 0 for all of them."""
        visible = [[name] for name in reversed(node(count))]
        chosen = choose_devices(visible)
        assert chosen == [0] * count
        require_own_devices(["node1"] * count, visible, chosen)

    @pytest.mark.parametrize("count", [4, 8])
    def test_a_scheduler_that_isolates_pairs(self, count: int) -> None:
        visible = [node(count)[rank // 2 * 2 :][:2] for rank in range(count)]
        assert choose_devices(visible) == [0, 1] * (count // 2)

    def test_fewer_ranks_than_devices(self) -> None:
        assert choose_devices([node(8)] * 3) == [0, 1, 2]

    def test_nodes_are_apart_whatever_the_order_of_their_ranks(self) -> None:
        first, second = node(2, "a"), node(2, "b")
        assert choose_devices([first, second, first, second]) == [0, 0, 1, 1]

    def test_one_that_sees_little_is_served_before_one_that_sees_all(self) -> None:
        first = node(2)
        assert choose_devices([first, first[:1]]) == [1, 0]

    def test_ranks_without_a_device_compute_on_the_processor(self) -> None:
        assert choose_devices([[], node(1), []]) == [None, 0, None]

    @given(st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(1, 20), st.booleans())
    def test_devices_are_shared_evenly_and_alone_where_there_are_enough(
        self, nodes: list[int], ranks: int, isolated: bool
    ) -> None:
        names = [node(count, f"node{number}") for number, count in enumerate(nodes)]
        visible = [own for own in names for _ in range(ranks)]
        if isolated:
            visible = [[own[rank % len(own)]] for own in names for rank in range(ranks)]
        chosen = choose_devices(visible)
        taken = [seen[position] for seen, position in zip(visible, chosen, strict=True) if position is not None]
        uses = [taken.count(name) for own in names for name in own]
        assert sum(uses) == ranks * len(nodes)
        for count, first in zip(nodes, [sum(nodes[:i]) for i in range(len(nodes))], strict=True):
            there = uses[first : first + count]
            assert max(there) - min(there) <= 1
        hosts = [f"node{number}" for number in range(len(nodes)) for _ in range(ranks)]
        if max(uses) > 1:
            with pytest.raises(ConfigError, match=r"run\.share_devices = False: ranks .* would take one GPU"):
                require_own_devices(hosts, visible, chosen)
        else:
            require_own_devices(hosts, visible, chosen)


class TestMoreRanksThanDevices:
    @pytest.mark.parametrize("count", [1, 4, 8])
    def test_are_an_error_that_names_node_numbers_and_fix(self, count: int) -> None:
        visible = [node(4, "node1")] * 4 + [node(count, "node2")] * (count + 1)
        hosts = ["node1"] * 4 + ["node2"] * (count + 1)
        with pytest.raises(ConfigError) as found:
            require_own_devices(hosts, visible, choose_devices(visible))
        assert str(found.value) == (
            f"run.share_devices = False: ranks 4{' to 5' if count == 1 else f', {4 + count}'} would take one GPU: the "
            f"{count + 1} ranks on node2 see {count}; start one rank a GPU there, let the scheduler give each rank its "
            "own, or allow sharing with true"
        )

    def test_are_one_error_on_all_ranks_unless_allowed(self, fake: pytest.MonkeyPatch) -> None:
        def action(communicator: ThreadCommunicator) -> str:
            with pytest.raises(UserError) as found:
                find_device("auto", communicator)
            return str(found.value)

        (text,) = set(on_ranks(3, action))
        assert "ranks 0, 2 would take one GPU: the 3 ranks on" in text
        shared = on_ranks(3, lambda communicator: str(find_device("auto", communicator, share=True)))
        assert shared == ["cuda:0", "cuda:1", "cuda:0"]

    def test_one_rank_that_sees_none_where_one_must(self, fake: pytest.MonkeyPatch) -> None:
        fake.setattr(device, "_count", lambda setting: device_count_without(setting))

        def device_count_without(setting: str) -> int:
            raise ConfigError("run.device", setting, "none here")

        def action(communicator: ThreadCommunicator) -> str:
            with pytest.raises(UserError) as found:
                find_device("cuda", communicator)
            return str(found.value)

        assert set(on_ranks(2, action)) == {"run.device = 'cuda': none here"}


def test_each_rank_finds_its_own(fake: pytest.MonkeyPatch) -> None:
    assert on_ranks(2, lambda communicator: str(find_device("auto", communicator))) == ["cuda:0", "cuda:1"]
    assert on_ranks(2, lambda communicator: str(find_device("cpu", communicator))) == ["cpu", "cpu"]
    assert torch.are_deterministic_algorithms_enabled()


def test_a_device_is_recorded_with_its_identifier(fake: pytest.MonkeyPatch) -> None:
    assert describe_device(torch.device("cuda", 1)) == "cuda:1 GPU-1"
    assert describe_device(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_used_only_where_asked_for(fake: pytest.MonkeyPatch, tf32: bool) -> None:
    find_device("auto", SerialCommunicator(), tf32=tf32)
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is tf32


def test_the_device_of_a_process_that_knows_no_others(fake: pytest.MonkeyPatch) -> None:
    assert [str(device_of_rank("auto", rank)) for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]


def test_without_a_gpu_auto_is_the_processor_and_cuda_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert str(find_device("auto", SerialCommunicator())) == "cpu"
    with pytest.raises(UserError, match=r"run\.device = 'cuda': no CUDA device is visible on \S+; use 'cpu' or 'auto'"):
        find_device("cuda", SerialCommunicator())
