from __future__ import annotations

import gc
import io
import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.config import resolve
from hpcfsl.data import arena
from hpcfsl.errors import DataError
from hpcfsl.parallel import sharing
from hpcfsl.parallel.communicator import AgreedError, SerialCommunicator
from hpcfsl.parallel.sharing import share_on_node
from hpcfsl.simulation import RunFolder, simulate
from hpcfsl.trace.reader import open as open_run

NAMELESS = re.compile(r"memfd:hpcfsl-data|/dev/shm/")
SHAPES = [(0,), (), (5,), (3, 0, 2), (4, 5, 6)]


def shared_maps() -> int:
    return len(NAMELESS.findall(Path("/proc/self/maps").read_text()))


def open_files() -> int:
    return sum(bool(NAMELESS.search(os.readlink(f"/proc/self/fd/{name}"))) for name in os.listdir("/proc/self/fd")
               if os.path.lexists(f"/proc/self/fd/{name}"))  # fmt: skip


class Maker:
    """Makes a value and counts by whom it was asked."""

    def __init__(self, value: Any) -> None:
        self.value, self.asked, self._lock = value, 0, threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            self.asked += 1
        return self.value


class TestWhatIsShared:
    @pytest.mark.parametrize(("ranks", "each", "nodes"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 2, 3), (4, 1, 4)])
    def test_one_copy_a_node(self, ranks: int, each: int, nodes: int) -> None:
        array = np.arange(300_000, dtype=np.float32)
        maker, before = Maker({"array": array}), shared_maps()

        def body(communicator: ThreadCommunicator) -> Any:
            value, problem = share_on_node(communicator, maker)
            assert problem == ""
            communicator.barrier()
            assert communicator.local_size == 1 or shared_maps() > before
            return value["array"]

        found = on_ranks(ranks, body, ranks_per_node=each)
        assert maker.asked == nodes
        for rank, other in enumerate(found):
            np.testing.assert_array_equal(other, array)
            alone = min(each, ranks - rank // each * each) == 1
            assert (other is array) == alone
            assert other.flags.writeable == alone
        del found, other
        assert shared_maps() == before
        assert open_files() == 0

    def test_large_arrays_of_sources_are_not_copied(self, monkeypatch: pytest.MonkeyPatch) -> None:
        offers: list[Any] = []
        take = sharing._take
        monkeypatch.setattr(sharing, "_take", lambda offer: offers.append(offer) or take(offer))
        before = shared_maps()

        def make() -> Any:
            pixels = arena.empty((300, 1000), np.float32)
            pixels[:] = np.arange(300_000, dtype=np.float32).reshape(300, 1000)
            return {"images": pixels[:, None], "some": pixels[100:], "few": arena.empty((3,), np.int64) * 0}

        for value, problem in on_ranks(3, lambda communicator: share_on_node(communicator, make)):
            assert problem == ""
            np.testing.assert_array_equal(value["images"][:, 0].reshape(-1), np.arange(300_000, dtype=np.float32))
            np.testing.assert_array_equal(value["some"], value["images"][100:, 0])
            assert (value["few"].tolist(), value["images"].flags.writeable) == ([0, 0, 0], False)
        assert [(number, size) for number, _, size in offers[0].places] == [(1, 1_200_000), (1, 800_000), (0, 24)]
        del value
        gc.collect()
        assert (shared_maps(), open_files()) == (before, 0)

    def test_alone_a_source_makes_arrays_of_its_own(self) -> None:
        array = arena.empty((1 << 20,), np.uint8)
        assert array.flags.writeable
        assert arena.find(memoryview(array.data)) is None

    @pytest.mark.parametrize("dtype", ["u1", "?", "<f4", ">i2", "i8", "U3"])
    def test_arrays_of_every_kind_come_through(self, dtype: str, tmp_path: Path) -> None:
        generator = np.random.default_rng(1)
        arrays: list[Any] = [generator.integers(0, 2, shape).astype(dtype) for shape in SHAPES]
        arrays += [arrays[-1][:, ::2, 1:], arrays[-1].T, np.asfortranarray(arrays[-1])]
        if dtype != "?":
            arrays[2].tofile(tmp_path / "mapped")
            arrays.append(np.memmap(tmp_path / "mapped", dtype, "r"))
        for found, _ in on_ranks(3, lambda communicator: share_on_node(communicator, lambda: arrays)):
            for mine, other in zip(arrays, found, strict=True):
                assert (type(other), other.dtype, other.shape) == (np.ndarray, mine.dtype, mine.shape)
                assert not other.flags.writeable
                assert other.ctypes.data % 8 == 0
                np.testing.assert_array_equal(other, mine)

    def test_writing_to_it_is_refused(self) -> None:
        for found, _ in on_ranks(2, lambda communicator: share_on_node(communicator, lambda: np.zeros(9))):
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 1.0


class TestWhereItCannotBeShared:
    @pytest.fixture
    def maker(self) -> Maker:
        return Maker([np.arange(100)])

    def all_own(self, maker: Maker, reason: str, ranks_that_made: int = 3) -> None:
        for value, problem in on_ranks(3, lambda communicator: share_on_node(communicator, maker)):
            np.testing.assert_array_equal(value[0], np.arange(100))
            assert reason in problem
        assert maker.asked == ranks_that_made
        assert open_files() == 0

    def test_no_file_in_memory(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError("not here")

        monkeypatch.setattr(os, "memfd_create", refuse)
        self.all_own(maker, "cannot offer it")

    def test_no_room(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sharing, "_memory_file", lambda: io.FileIO("/dev/full", "w+"))
        self.all_own(maker, "No space left on device")

    def test_the_path_leads_to_nothing(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)
        self.all_own(maker, "cannot be opened")

    def test_the_path_leads_to_another_file(self, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        take = sharing._take
        other = b"another file's 16"
        monkeypatch.setattr(
            sharing, "_take", lambda offer: take(replace(offer, files=tuple((path, other) for path, _ in offer.files)))
        )
        self.all_own(maker, "different process namespaces")

    def test_a_class_that_pickle_refuses(self) -> None:
        maker = Maker([np.arange(100), lambda: None])
        self.all_own(maker, "cannot offer it")

    def test_an_old_python_shares_by_a_file_that_is_deleted(
        self, maker: Maker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "memfd_create")
        before = sorted(os.listdir("/dev/shm"))
        found = on_ranks(3, lambda communicator: share_on_node(communicator, maker))
        assert [problem for _, problem in found] == [""] * 3
        assert maker.asked == 1
        assert sorted(os.listdir("/dev/shm")) == before


class TestMistakes:
    def test_a_mistake_of_one_node_is_everybodys(self) -> None:
        def body(communicator: ThreadCommunicator) -> None:
            def make() -> None:
                if communicator.rank == 2:
                    raise DataError("node 1 cannot read it")

            with pytest.raises(AgreedError, match="node 1 cannot read it"):
                share_on_node(communicator, make)

        on_ranks(4, body, ranks_per_node=2)

    def test_so_is_one_of_a_rank_that_needs_a_copy_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sharing, "_take", lambda _: (None, "closed"))

        def body(communicator: ThreadCommunicator) -> None:
            def make() -> str:
                if communicator.rank == 1:
                    raise DataError("rank 1 cannot read it")
                return "made"

            with pytest.raises(AgreedError, match="rank 1 cannot read it"):
                share_on_node(communicator, make)

        on_ranks(2, body)


def test_a_rank_with_a_copy_of_its_own_is_in_the_trace(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcfsl.world.share_on_node", lambda communicator, make: (make(), "the file is gone"))
    simulate(resolve(tiny()), RunFolder(tmp_path / "run"), SerialCommunicator())
    texts = open_run(tmp_path / "run").table("events")["text"].tolist()
    assert b"1 of 1 ranks hold a copy of the data of their own: the file is gone" in texts
