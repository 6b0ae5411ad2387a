"""When a rank is taken for stuck or missing, tick by tick, with made-up heartbeats of the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.parallel.attendance import attended
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.heartbeat import (
    Beat,
    beat_seconds,
    clear_beats,
    read_beat,
    remove_beat,
    take_beat,
    write_beat,
)
from hpcfsl.parallel.watchdog import Watchdog
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.folder import RunFolder

DEADLINE = 20.0
TICK = beat_seconds(4, DEADLINE)


class Four(SerialCommunicator):
    """Rank 0 of four, whose others exist only as heartbeats."""

    size = 4


def beat_of(rank: int, number: int, arrivals: int) -> Beat:
    watch = Stopwatch()
    watch.enter("train")
    watch.round, watch.group, watch.arrivals = 7, 2, arrivals
    return take_beat(rank, watch, number, 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def watch() -> Stopwatch:
    found = Stopwatch(DEADLINE)
    found.holds_folder = True
    return found


Tick = Callable[[int], list[str]]


@pytest.fixture
def tick(folder: RunFolder, watch: Stopwatch) -> Tick:
    """Return a function that looks so many times, and returns what is said."""
    dog = Watchdog(folder, Four(), watch)

    def look(times: int) -> list[str]:
        return [said for said in (dog.look(TICK) for _ in range(times)) if said is not None]

    return look


class TestAlone:
    def test_one_step_longer_than_the_deadline_is_stuck(self, tick: Tick, watch: Stopwatch) -> None:
        with watch.phase("train"):
            assert tick(4) == []
            assert tick(2)[0] == "no progress for 20 s (run.deadline_seconds = 20): taken for stuck"

    def test_every_step_has_the_deadline_for_itself(self, tick: Tick, watch: Stopwatch) -> None:
        for _ in range(5):
            with watch.phase("train"):
                assert tick(4) == []

    def test_before_the_folder_is_held_nobody_is_named(self, tick: Tick, watch: Stopwatch, folder: RunFolder) -> None:
        watch.holds_folder = False
        with watch.at_exchange("gather_all"):
            assert tick(5)[0] == "waiting in gather_all for 20 s; who has not arrived is not known this early"
        assert not (folder.path / "heartbeat").exists()


class TestWaiting:
    def test_the_missing_are_named_with_the_last_that_is_known(
        self, tick: Tick, watch: Stopwatch, folder: RunFolder
    ) -> None:
        write_beat(folder.path, beat_of(1, number=5, arrivals=1))
        write_beat(folder.path, beat_of(3, number=5, arrivals=0))
        with watch.at_exchange("gather_all"):
            said = tick(12)
        assert said[0].startswith("waiting in gather_all for ")
        assert "; ranks 2, 3 have not arrived: rank 2 has not been heard of; rank 3 last in phase train, " in said[0]
        assert "train, round 7, group 2, on " in said[0]

    def test_somebody_at_work_is_waited_for(self, tick: Tick, watch: Stopwatch, folder: RunFolder) -> None:
        with watch.at_exchange("gather_all"):
            for number in range(60):
                for rank in (1, 2, 3):
                    write_beat(folder.path, beat_of(rank, number=number, arrivals=0))
                assert tick(1) == []

    def test_until_only_the_silent_are_missing(self, tick: Tick, watch: Stopwatch, folder: RunFolder) -> None:
        write_beat(folder.path, beat_of(2, number=5, arrivals=0))
        with watch.at_exchange("gather_all"):
            for number in range(20):
                write_beat(folder.path, beat_of(1, number=number, arrivals=0))
                write_beat(folder.path, beat_of(3, number=number, arrivals=1))
                assert tick(1) == []
            write_beat(folder.path, beat_of(1, number=30, arrivals=1))
            said = tick(12)
        assert "; rank 2 has not arrived: " in said[0]

    def test_a_lost_message_has_nobody_to_blame(self, tick: Tick, watch: Stopwatch, folder: RunFolder) -> None:
        for rank in (1, 2, 3):
            write_beat(folder.path, beat_of(rank, number=1, arrivals=1))
        with watch.at_exchange("barrier"):
            assert tick(12)[0].endswith("all ranks have arrived, so a message between them is lost")


class TestHeartbeats:
    def test_a_beat_is_read_back_and_removed(self, tmp_path: Path) -> None:
        first, second = beat_of(3, number=2, arrivals=9), beat_of(4, number=1, arrivals=0)
        write_beat(tmp_path, first)
        write_beat(tmp_path, second)
        assert (read_beat(tmp_path, 3), read_beat(tmp_path, 4), read_beat(tmp_path, 5)) == (first, second, None)
        remove_beat(tmp_path, 3)
        assert [path.name for path in (tmp_path / "heartbeat").iterdir()] == ["rank_000004"]
        remove_beat(tmp_path, 4)
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_job_left_is_cleared(self, tmp_path: Path) -> None:
        clear_beats(tmp_path)
        write_beat(tmp_path, beat_of(3, number=2, arrivals=9))
        clear_beats(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"rank": 1}', "null"])
    def test_one_that_is_torn_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "heartbeat").mkdir()
        (tmp_path / "heartbeat" / "rank_000001").write_text(text)
        assert read_beat(tmp_path, 1) is None

    def test_a_later_shorter_one_leaves_nothing_of_the_longer(self, tmp_path: Path) -> None:
        write_beat(tmp_path, beat_of(3, number=10**12, arrivals=10**12))
        write_beat(tmp_path, beat_of(3, number=1, arrivals=1))
        found = json.loads((tmp_path / "heartbeat" / "rank_000003").read_text())
        assert (found["number"], found["arrivals"]) == (1, 1)

    def test_a_folder_that_cannot_be_written_is_no_failure(self, tmp_path: Path) -> None:
        write_beat(tmp_path / "missing", beat_of(0, number=1, arrivals=0))
        assert read_beat(tmp_path / "missing", 0) is None

    @pytest.mark.parametrize(
        ("size", "deadline", "seconds"), [(1, 1800, 5), (1000, 1800, 10), (8000, 1800, 80), (8000, 100, 25), (2, 4, 1)]
    )
    def test_many_ranks_write_seldom(self, size: int, deadline: float, seconds: float) -> None:
        assert beat_seconds(size, deadline) == seconds


def test_every_exchange_is_noted() -> None:
    def action(communicator: ThreadCommunicator) -> tuple[int, int, str | None, list[int]]:
        watch = Stopwatch()
        ranks = attended(communicator, watch)
        ranks.barrier()
        found = ranks.gather_all(ranks.rank)
        return ranks.size, watch.arrivals, watch.exchange, found

    assert on_ranks(2, action) == [(2, 2, None, [0, 1])] * 2


def test_an_exchange_is_named_while_it_lasts() -> None:
    watch, seen = Stopwatch(), []

    class Seeing(SerialCommunicator):
        def barrier(self) -> None:
            seen.append(watch.exchange)

    attended(Seeing(), watch).barrier()
    assert seen == ["barrier"]
