from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ranks import ThreadCommunicator, on_ranks

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import reader
from hpcfsl.trace.checkpoint import discard_uncommitted, latest_checkpoint
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.shards import list_shards, ranks_of_shards, read_shards, read_vectors, round_of_shard


def commit_three_times(maker: Any, path: Path, ranks: int) -> None:
    """Commit rounds 0 to 5 in three steps of two; rank r remembers r clients, so root remembers none."""

    def body(communicator: ThreadCommunicator) -> None:
        writer = maker.writer(path, communicator)
        for end in (2, 4, 6):
            for round in (end - 2, end - 1):
                writer.add_round(maker.record(round))
            clients = np.arange(communicator.rank) + 10 * communicator.rank
            writer.commit(maker.checkpoint(end - 2, end), {"clients": clients, "credit": clients + end / 10})

    on_ranks(ranks, body)


def names(path: Path) -> list[str]:
    return [shard.name for shard in list_shards(RunFolder(path))]


def test_shards_live_as_long_as_their_checkpoint(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 3)
    kept = [f"clients_{round:06d}_rank_{rank:04d}_of_0003.h5" for round in (4, 6) for rank in (1, 2)]
    assert names(tmp_path) == kept
    loaded = latest_checkpoint(RunFolder(tmp_path))
    assert loaded is not None
    listed = [file.path for file in loaded.header.files if round_of_shard(file.path) is not None]
    assert listed == [f"checkpoints/{name}" for name in kept[2:]]
    assert ranks_of_shards(loaded.header.files) == 3
    assert discard_uncommitted(RunFolder(tmp_path), loaded) == []
    assert names(tmp_path) == kept


def test_a_reader_of_a_run_that_went_on_does_not_miss_the_shards_deleted_since(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 2)
    opened = reader.open(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    opened.verify()


def test_a_reader_misses_the_shards_of_a_checkpoint_that_is_there(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 2)
    opened = reader.open(tmp_path)
    for shard in list_shards(RunFolder(tmp_path)):
        shard.unlink()
    with pytest.raises(RunFolderError, match="missing"):
        opened.verify()


def test_some_ranks_shards_come_back_in_order(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 4)
    loaded = latest_checkpoint(RunFolder(tmp_path))
    assert loaded is not None
    found = read_shards(RunFolder(tmp_path), loaded.header.files, [0, 1, 3])
    assert found["clients"].tolist() == [10, 30, 31, 32]
    np.testing.assert_array_equal(found["credit"], found["clients"] + 0.6)
    assert read_shards(RunFolder(tmp_path), loaded.header.files, [0]) == {}


def test_vectors_are_files_of_their_own_that_live_as_long(maker: Any, tmp_path: Path) -> None:
    def body(communicator: ThreadCommunicator) -> None:
        writer = maker.writer(tmp_path, communicator)
        clients = np.arange(5, dtype=np.int64) * 3 + communicator.rank
        for end in (2, 4, 6):
            for round in (end - 2, end - 1):
                writer.add_round(maker.record(round))
            rows = np.stack([clients + end / 10, -clients], axis=1).astype(np.float32)
            lots = [(clients[:3], rows[:3]), (clients[3:], rows[3:])] if communicator.rank else []
            numbers = {"clients": clients, "credit": clients + end / 10}
            writer.commit(maker.checkpoint(end - 2, end), numbers, {"variate": iter(lots), "personal": iter(lots[:1])})

    on_ranks(3, body)
    folder = RunFolder(tmp_path)
    loaded = latest_checkpoint(folder)
    assert loaded is not None
    stems = [f"clients_{round:06d}_rank_{rank:04d}_of_0003" for round in (4, 6) for rank in (0, 1, 2)]
    ends = (".h5", "_personal_0000.h5", "_variate_0000.h5", "_variate_0001.h5")
    assert names(tmp_path) == [stem + end for stem in stems for end in (ends if "rank_0000" not in stem else ends[:1])]
    found = list(read_vectors(folder, loaded.header.files, "variate", [0, 2]))
    assert [clients.tolist() for clients, _ in found] == [[2, 5, 8], [11, 14]]
    assert found[1][1].tolist() == [[np.float32(11.6), -11], [np.float32(14.6), -14]]
    assert list(read_vectors(folder, loaded.header.files, "moments", [0, 1, 2])) == []
    assert read_shards(folder, loaded.header.files, [1])["clients"].tolist() == [1, 4, 7, 10, 13]
    assert ranks_of_shards(loaded.header.files) == 3
    assert discard_uncommitted(folder, loaded) == []


def test_a_damaged_shard_costs_its_checkpoint_alone(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 2)
    (newest,) = (tmp_path / "checkpoints").glob("clients_000006_*.h5")
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    loaded = latest_checkpoint(RunFolder(tmp_path))
    assert loaded is not None
    assert loaded.checkpoint.next_round == 4
    assert newest.name in loaded.warnings[0]
    discard_uncommitted(RunFolder(tmp_path), loaded)
    assert names(tmp_path) == ["clients_000004_rank_0001_of_0002.h5"]
    assert read_shards(RunFolder(tmp_path), loaded.header.files, [1])["credit"].tolist() == [10.4]


def test_a_missing_shard_is_not_an_empty_one(maker: Any, tmp_path: Path) -> None:
    commit_three_times(maker, tmp_path, 2)
    for shard in list_shards(RunFolder(tmp_path)):
        shard.unlink()
    with pytest.raises(RunFolderError, match="no checkpoint can be used"):
        latest_checkpoint(RunFolder(tmp_path))
