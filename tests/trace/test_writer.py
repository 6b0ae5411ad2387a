from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpcfsl.errors import RunFolderError
from hpcfsl.parallel.communicator import AgreedError
from hpcfsl.trace import folder as folder_module
from hpcfsl.trace import reader
from hpcfsl.trace.checkpoint import latest_checkpoint, read_header
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.schema import TABLES
from hpcfsl.trace.updates import UpdateKey, rounds_of_file


def test_manifest_lists_every_file_with_its_checksum(finished: Path) -> None:
    header = read_header(finished / "checkpoints" / "round_000005.h5")
    assert header.next_round == 5
    assert header.segment_start == 2
    on_disk = {p.relative_to(finished).as_posix() for part in ("trace", "updates") for p in (finished / part).iterdir()}
    assert {file.path for file in header.files} == on_disk
    for file in header.files:
        data = (finished / file.path).read_bytes()
        assert (file.sha256, file.bytes) == (hashlib.sha256(data).hexdigest(), len(data))


def test_segments_are_compressed_and_checked(finished: Path) -> None:
    with h5py.File(finished / "trace" / "segment_000000_000002.h5") as file:
        for table, columns in TABLES.items():
            for column in columns:
                dataset = file[table][column.name]
                if dataset.size:
                    assert (dataset.compression, dataset.shuffle, dataset.fletcher32) == ("gzip", True, True)


def test_updates_are_raw_and_checked(maker, finished: Path) -> None:
    for path in (finished / "updates").iterdir():
        with h5py.File(path) as file:
            for kind in file:
                vectors = file[kind]["update"]
                assert (vectors.compression, vectors.fletcher32) == (None, True)
                assert vectors.shape == (len(file[kind]["round"]), maker.parameters)
                assert vectors.chunks == (1, maker.parameters)


def test_files_are_readable_by_older_hdf5(finished: Path) -> None:
    for path in finished.rglob("*.h5"):
        start = path.read_bytes()[:1024]
        at = start.index(b"\x89HDF\r\n\x1a\n")
        assert start[at + 8] == 3, "superblock version, the newest that HDF5 1.10 knows"


def test_no_values_of_variable_length_and_no_booleans(finished: Path) -> None:
    def look(name: str, thing) -> None:
        for key in thing.attrs:
            if key != "DIMENSION_LIST":  # HDF5's own
                assert h5py.check_string_dtype(thing.attrs.get_id(key).dtype) is None or (
                    h5py.check_string_dtype(thing.attrs.get_id(key).dtype).length is not None
                )
        if isinstance(thing, h5py.Dataset):
            assert h5py.check_vlen_dtype(thing.dtype) is None
            assert h5py.check_enum_dtype(thing.dtype) is None
            assert {"units", "long_name", "description", "deterministic"} <= set(thing.attrs), name
            for axis in range(thing.ndim):
                assert thing.is_scale or len(thing.dims[axis]) == 1, name

    for part in ("trace", "updates"):
        for path in (finished / part).iterdir():
            with h5py.File(path) as file:
                file.visititems(look)


def test_buffer_size_decides_the_number_of_files(maker, tmp_path: Path) -> None:
    maker.run(tmp_path / "small", buffer_bytes=1)
    maker.run(tmp_path / "large", buffer_bytes=1 << 20)
    assert len(list((tmp_path / "small" / "updates").iterdir())) == 5 * 3
    assert len(list((tmp_path / "large" / "updates").iterdir())) == 2
    assert reader.open(tmp_path / "small").update_keys() == reader.open(tmp_path / "large").update_keys()


def test_vectors_are_copied_when_added(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path, buffer_bytes=1 << 20)
    vector = np.ones(4, np.float32)
    writer.add_update(round=0, group=None, vector=vector)
    vector[:] = 2
    writer.commit(maker.checkpoint(0, 1))
    assert reader.open(tmp_path).global_update(0).tolist() == [1, 1, 1, 1]


def test_half_precision(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path, update_dtype="float16")
    writer.add_update(round=0, group=1, vector=np.array([0.1, 1e6, -0.0, np.nan], np.float32))
    writer.commit(maker.checkpoint(0, 1))
    run = reader.open(tmp_path)
    (_, stored), *_ = run.updates()
    assert stored.dtype == np.float16
    found = run.group_update(0, 1)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.array([0.1, np.inf, 0, np.nan], np.float16).astype(np.float32), equal_nan=True)


def test_clients_updates(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path)
    writer.add_update(round=0, client=20_000_000, vector=np.arange(3, dtype=np.float32))
    writer.commit(maker.checkpoint(0, 1))
    run = reader.open(tmp_path)
    assert run.update_keys() == [UpdateKey(0, "client", 20_000_000)]
    assert run.client_update(0, 20_000_000).tolist() == [0, 1, 2]


def test_empty_vector_and_more_than_one_size(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path)
    for group, size in enumerate([0, 3, 5]):
        writer.add_update(round=0, group=group, vector=np.ones(size, np.float32))
    writer.commit(maker.checkpoint(0, 1))
    assert [vector.size for _, vector in reader.open(tmp_path).updates()] == [0, 3, 5]


def test_wrong_use_is_a_value_error(maker, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose float32 or float16"):
        maker.writer(tmp_path, update_dtype="float64")
    writer = maker.writer(tmp_path, buffer_bytes=1)
    vector = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="not to both"):
        writer.add_update(round=0, group=0, client=0, vector=vector)
    writer.add_update(round=0, group=0, vector=vector)
    with pytest.raises(ValueError, match="recorded twice"):
        writer.add_update(round=0, group=0, vector=vector)
    with pytest.raises(ValueError, match=r"shape \(1, 2\) is not a vector"):
        writer.add_update(round=0, group=1, vector=vector[None])


def test_commits_must_join(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path)
    with pytest.raises(ValueError, match="rounds 1 to 2 does not continue at round 0"):
        writer.commit(maker.checkpoint(1, 2))
    writer.commit(maker.checkpoint(0, 2))
    with pytest.raises(ValueError, match="rounds 2 to 1 does not"):
        writer.commit(maker.checkpoint(2, 1))


def test_commit_before_the_first_round_and_twice(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path)
    writer.commit(maker.checkpoint(0, 0))
    assert reader.open(tmp_path).rounds_done == 0
    assert list((tmp_path / "trace").iterdir()) == []
    writer.add_round(maker.record(0))
    writer.commit(maker.checkpoint(0, 1))
    writer.commit(maker.checkpoint(1, 1))
    run = reader.open(tmp_path)
    run.verify()
    assert run.rounds_done == 1
    assert len(run.table("rounds")["round"]) == 1


def test_the_checkpoint_keeps_its_own_configuration(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path)
    writer.commit(replace(maker.checkpoint(0, 1), config_text="[run]\nseed = 8\n"))
    assert reader.open(tmp_path).config == {"run": {"seed": 8}}
    assert latest_checkpoint(RunFolder(tmp_path)).checkpoint.config_text == "[run]\nseed = 8\n"


def test_ranks_write_their_own_files(maker, tmp_path: Path, finished: Path) -> None:
    assert maker.ranks(3, lambda communicator: maker.run(tmp_path, communicator=communicator)) == [None] * 3
    names = sorted(path.name for path in (tmp_path / "updates").iterdir())
    assert {name[21:30] for name in names} == {"rank_0000", "rank_0001", "rank_0002"}
    mine, other = reader.open(tmp_path), reader.open(finished)
    assert mine.update_keys() == other.update_keys()
    for (_, a), (_, b) in zip(mine.updates(), other.updates(), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_rank_that_cannot_write_stops_all(maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    write = folder_module.write_atomic

    def fail(path: Path, data: bytes) -> None:
        if f"rank_{bad:04d}" in path.name:
            with folder_module.folder_errors(path):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr("hpcfsl.trace.files.write_atomic", fail)
    raised = maker.ranks(3, lambda communicator: maker.run(tmp_path, (1,), communicator, buffer_bytes=1 << 20))
    assert all(isinstance(error, AgreedError) for error in raised)
    assert len({str(error) for error in raised}) == 1
    assert "no space left on device; free some space" in str(raised[0])
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_root_that_cannot_write_the_checkpoint_stops_all(
    maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise RunFolderError(f"{path.name}: full")

    monkeypatch.setattr("hpcfsl.trace.checkpoint.write_atomic", fail)
    raised = maker.ranks(2, lambda communicator: maker.run(tmp_path, (1,), communicator))
    assert [str(error) for error in raised] == ["round_000001.h5: full"] * 2


def test_writer_on_a_damaged_checkpoint(maker, tmp_path: Path) -> None:
    maker.run(tmp_path)
    (tmp_path / "checkpoints" / "round_000005.h5").write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match=r"round_000005.h5: damaged"):
        maker.writer(tmp_path)


def test_no_file_is_open_between_calls(maker, tmp_path: Path) -> None:
    writer = maker.writer(tmp_path, buffer_bytes=1)
    writer.add_update(round=0, vector=np.ones(3, np.float32))
    writer.add_round(maker.record(0))
    writer.commit(maker.checkpoint(0, 1))
    run = reader.open(tmp_path)
    run.table("rounds")
    run.global_update(0)
    opened = [path.resolve() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert not [path for path in opened if tmp_path in path.parents]


def test_names() -> None:
    assert UpdateKey(12, "group", 3).name == "round_000012/group_0003"
    assert UpdateKey(12, "client", 3).name == "round_000012/client_0000000003"
    assert UpdateKey(12, "global", -1).name == "round_000012/global"
    assert rounds_of_file("updates/rounds_000002_000005_rank_0003_part_0000_start_00c0ffee.h5") == range(2, 5)
    assert list(rounds_of_file("trace/segment_000000_000002.h5")) == []
