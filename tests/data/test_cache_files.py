"""The files of kept data: whole or not there, damaged, larger than the memory, on a disk without room."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes
from support.broken import broken, complaint
from support.kept_data import ROWS, X, Y, assert_same, kept, made, write_csv, write_npz

from hpcfsl.data import cache
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.errors import DataError


@pytest.mark.parametrize("links", [True, False])
def test_the_first_of_two_that_make_it_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = made(write_csv, tmp_path / "data"), tmp_path / "a.data"

    def refuse(*paths: Path) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    cache.write(path, source.load(0))
    first = path.stat().st_ino
    cache.write(path, source.load(0))
    assert path.stat().st_ino == first
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["a.data"]
    assert_same(cache.read(path), source.load(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owners": np.full(ROWS, 2**50)}, "owners must be numbered"),
        ({"test_owners": np.full(len(Y[::3]), 2**50)}, "test owners must be numbered"),
        ({"owners": Y.astype(np.uint64)}, "owners are of another type"),
        ({"targets": Y / 2}, "have type float64; classes are whole numbers"),
    ],
)
def test_arrays_that_no_data_set_has(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    dataset = made(write_npz, tmp_path / "data").load(0)
    for name, value in changes.items():
        object.__setattr__(dataset, name, value)
    cache.write(tmp_path / "a.data", dataset)
    with pytest.raises(DataError, match=rf"{message}.*; delete it"):
        cache.read(tmp_path / "a.data")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_arrays_of_any_kind_come_back(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    kinds = st.one_of(boolean_dtypes(), integer_dtypes(endianness="?"), floating_dtypes(endianness="?"))
    shape = data.draw(array_shapes(min_dims=2, max_dims=4, max_side=6))
    inputs = data.draw(kinds.flatmap(lambda kind: arrays(kind, shape, fill=st.just(0), elements=st.integers(0, 1))))
    turned = np.asfortranarray(inputs) if data.draw(st.booleans()) else inputs[::-1]
    dataset = Dataset(
        name=data.draw(st.text()),
        inputs=turned,
        targets=np.zeros((len(inputs), 2), np.float32),
        owners=np.arange(len(inputs)),
        num_classes=0,
        test_inputs=None,
        test_targets=None,
        last_values=(0, 0) if data.draw(st.booleans()) else (),
    )
    path = tmp_path_factory.getbasetemp() / "any.data"
    path.unlink(missing_ok=True)
    cache.write(path, dataset)
    assert_same(cache.read(path), dataset)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a file as it is kept."""
    base = tmp_path_factory.mktemp("good")
    cache.load(made(write_csv, base / "data"), 0, str(base / "cache"))
    return kept(base / "cache")[0].read_bytes()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damage_is_one_line(good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    head = len(good) - 6000  # most of what is to be read wrongly is there
    path = tmp_path_factory.getbasetemp() / "bad.data"
    path.write_bytes(data.draw(st.one_of(broken(good), broken(good[:head]).map(lambda start: start + good[head:]))))
    found = complaint(lambda: cache.read(path))
    if found:  # else other bytes than those of the head were changed
        assert found.startswith(f"file {path}: ")
        assert found.endswith("; delete it, and it is made again")


@pytest.mark.parametrize("end", [0, 10, 63, 64, 200, -1])
def test_files_that_are_cut_off(good: bytes, tmp_path: Path, end: int) -> None:
    (tmp_path / "cut.data").write_bytes(good[:-7000] if end == -1 else good[:end])
    with pytest.raises(DataError, match=r"is no data set that was kept \(.*\); delete it"):
        cache.read(tmp_path / "cut.data")


def test_a_disk_without_room(tmp_path: Path) -> None:
    source, place = made(write_npz, tmp_path / "data"), tmp_path / "cache"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room, message in ((1 << 20, r"no room for 0\.00\d+ GB"), (X.nbytes + (1 << 12), "the data cannot be kept")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(DataError, match=rf"run\.data_cache = '.*': {message} \(.*\); choose another folder"):
                cache.load(source, 0, str(place))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(place.iterdir()) == []


def test_data_for_which_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(write_npz, tmp_path / "data")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    with pytest.raises(DataError, match=r"array x takes .* GB and the disk of run\.data_cache has 9e-09"):
        cache.load(source, 0, str(tmp_path / "cache"))


@pytest.mark.parametrize("folder", ["file/x", "a" * 5000, "nul\0"])
def test_folders_that_cannot_be_used(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^run\.data_cache = .*; (choose another folder|check the path)$"):
        cache.load(sources.parse({}), 0, f"{tmp_path}/{folder}")


def test_what_a_killed_start_left_goes_after_a_day(tmp_path: Path) -> None:
    source, place = made(write_csv, tmp_path / "data"), tmp_path / "cache"
    place.mkdir()
    names = [f"npz-{'0' * 32}.data.{mark * 16}.unfinished" for mark in "12"]
    old, young, other = place / names[0], place / names[1], place / "my.unfinished"
    for path, days in ((old, 2), (young, 0.5), (other, 2)):
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    cache.load(source, 0, str(place))
    assert (old.exists(), young.exists(), other.exists()) == (False, True, True)


SCRIPT = """
import resource, sys
from hpcfsl.data import cache
from hpcfsl.data.sources import sources
source = sources.parse({"source": "npz", "file": sys.argv[1]})
limit = int(sys.argv[3]) + next(
    1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")
)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for _ in range(2):
    print(int(cache.load(source, 0, sys.argv[2]).inputs[:, 7].sum()))
"""


@pytest.mark.parametrize("cached", [True, False])
def test_data_may_exceed_the_memory(tmp_path: Path, cached: bool) -> None:
    """256 MB of arrays in a process that may have 100 MB of its own; mapped files are not counted."""
    x = np.ones((64_000, 1000), np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.zeros(len(x), np.int64))
    folder = str(tmp_path / "cache") if cached else ""
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "a.npz"), folder, str(100 << 20)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    if cached:
        assert (done.returncode, done.stdout) == (0, "64000\n64000\n"), done.stderr
    else:
        assert done.returncode != 0
        assert "Unable to allocate" in done.stderr
