"""Recorded updates: stacked by kind, read back by key whatever the buffer, the ranks and the starts."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcfsl.trace import reader, updates
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.hdf5 import put_rows, reading
from hpcfsl.trace.updates import UpdateBuffer, UpdateKey, read_keys, read_vector, rounds_of_file

NUMBERED = st.builds(UpdateKey, st.integers(0, 3), st.sampled_from(["group", "client"]), st.integers(0, 10**11))
KEYS = st.one_of(NUMBERED, st.builds(UpdateKey, st.integers(0, 3), st.just("global"), st.just(-1)))


def make_buffer(path: Path, buffer_bytes: int = 1 << 20, dtype: str = "float32", start: str = "0" * 8) -> UpdateBuffer:
    folder = RunFolder(path)
    folder.create()
    return UpdateBuffer(folder=folder, rank=0, start=start, buffer_bytes=buffer_bytes, dtype=dtype)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.dictionaries(KEYS, st.sampled_from([0, 3, 7, 7, 7]), min_size=1, max_size=12),
    buffer_bytes=st.sampled_from([1, 60, 1 << 20]),
    dtype=st.sampled_from(["float32", "float16"]),
)
def test_every_vector_comes_back_under_its_key(
    tmp_path_factory: pytest.TempPathFactory, sizes: dict[UpdateKey, int], buffer_bytes: int, dtype: str
) -> None:
    path = tmp_path_factory.mktemp("updates")
    buffer = make_buffer(path, buffer_bytes, dtype)
    rng = np.random.default_rng(len(sizes))
    vectors = {key: rng.normal(size=size).astype(np.float32) for key, size in sizes.items()}
    for key, vector in vectors.items():
        buffer.add(key, vector)
    found = {}
    for entry in buffer.finish():
        with reading(path / entry.path) as file:
            assert all(key.round in rounds_of_file(entry.path) for key, _ in read_keys(file))
            found.update({key: read_vector(file, key.kind, row) for key, row in read_keys(file)})
    assert set(found) == set(vectors)
    for key, vector in vectors.items():
        assert found[key].dtype == np.dtype(dtype)
        assert np.array_equal(found[key], vector.astype(dtype))


def test_rows_are_sorted_and_named_by_columns(tmp_path: Path) -> None:
    buffer = make_buffer(tmp_path)
    for round, client in ((1, 7), (0, 9), (0, 2)):
        buffer.add(UpdateKey(round, "client", client), np.full(4, 10 * round + client, np.float32))
    (entry,) = buffer.finish()
    with reading(tmp_path / entry.path) as file:
        assert list(file) == ["client"]
        assert file["client"]["round"][()].tolist() == [0, 0, 1]
        assert file["client"]["client"][()].tolist() == [2, 9, 7]
        assert file["client"]["update"][:, 0].tolist() == [2, 9, 17]


def test_xarray_opens_every_kind_without_a_warning(finished: Path) -> None:
    xarray = pytest.importorskip("xarray")
    for path in (finished / "updates").iterdir():
        with reading(path) as file:
            kinds = list(file)
        for kind in kinds:
            with xarray.open_dataset(path, group=kind, engine="h5netcdf") as opened:
                assert opened["update"].dims == ("row", "parameter")
                assert set(opened.variables) == {"update", "round", kind} - {"global"}
                assert opened["update"].load().dtype == np.float32


def test_another_start_never_writes_over_a_committed_file(tmp_path: Path) -> None:
    key = UpdateKey(0, "group", 0)
    for start in ("aaaaaaaa", "bbbbbbbb"):
        buffer = make_buffer(tmp_path, start=start)
        buffer.add(key, np.zeros(3, np.float32))
        buffer.finish()
    assert len(list((tmp_path / "updates").iterdir())) == 2


def test_each_start_of_a_run_has_names_of_its_own(maker, tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        maker.ranks(2, lambda communicator: maker.run(tmp_path, (1,), communicator))
        names |= {path.name[-11:-3] for path in (tmp_path / "updates").iterdir()}
        for path in (tmp_path / "checkpoints").iterdir():
            path.unlink()  # so that the next start begins anew
    assert len(names) == 3  # and not 6: ranks of one start share it


def test_a_vector_that_fills_the_buffer_is_not_held_twice(tmp_path: Path) -> None:
    vector = np.ones(1 << 21, np.float32)
    buffer = make_buffer(tmp_path, buffer_bytes=1)
    tracemalloc.start()
    buffer.add(UpdateKey(0, "global", -1), vector)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The file itself, and what it grows by; a copy of the vector beside it would make it twice that.
    assert peak < 1.5 * vector.nbytes


def test_a_row_longer_than_a_chunk_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfsl.trace.hdf5._VECTOR_CHUNK_BYTES", 40)
    chunks = []

    def put(*arguments):
        dataset = put_rows(*arguments)
        chunks.append(dataset.chunks)
        return dataset

    monkeypatch.setattr(updates, "put_rows", put)
    buffer = make_buffer(tmp_path)
    vectors = [np.arange(25, dtype=np.float32) + number for number in range(3)]
    for number, vector in enumerate(vectors):
        buffer.add(UpdateKey(0, "group", number), vector)
    (entry,) = buffer.finish()
    assert chunks == [(1, 10)]
    with reading(tmp_path / entry.path) as file:
        assert all(np.array_equal(read_vector(file, "group", row), vectors[row]) for row in range(3))


def test_reads_by_key_across_the_files_of_ranks(maker, tmp_path: Path) -> None:
    maker.ranks(3, lambda communicator: maker.run(tmp_path, communicator=communicator))
    run = reader.open(tmp_path)
    for key, vector in run.updates():
        assert np.array_equal(vector, maker.update(key.round, key.number))
