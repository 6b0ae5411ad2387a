"""Data kept on a disk equals what was loaded, and is made again when anything that it depends on changes."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support.kept_data import WRITERS, assert_same, kept, made, write_csv, write_npz, write_wav

from hpcfsl.config import resolve
from hpcfsl.data import arena, cache
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.npz import Npz
from hpcfsl.errors import DataError
from hpcfsl.targets import load_data


@pytest.mark.parametrize("write", WRITERS)
def test_what_is_kept_is_what_was_loaded(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, place = made(write, tmp_path / "data"), tmp_path / "new" / "cache"
    for seed in (0, 1):
        wanted = source.load(seed)
        assert_same(cache.load(source, seed, str(place)), wanted)
    assert len(kept(place)) == (2 if source.uses_seed else 1)
    assert [path.name.split("-")[0] for path in kept(place)[:1]] == [str(source.model_dump()["source"]).split("-")[0]]
    monkeypatch.setattr(type(source), "load", None)  # whatever is missing now is not asked for
    found = cache.load(source, 1, str(place))
    assert_same(found, wanted)
    assert not found.inputs.flags.writeable


@pytest.mark.parametrize("write", WRITERS)
def test_changed_files_are_read_again(write: Any, tmp_path: Path) -> None:
    source, place = made(write, tmp_path / "data"), tmp_path / "cache"
    cache.load(source, 0, str(place))
    for path in sorted((tmp_path / "data").rglob("*.*")):
        before = kept(place)
        os.utime(path, ns=(path.stat().st_mtime_ns + 1,) * 2)
        cache.load(source, 0, str(place))
        assert len(kept(place)) == len(before) + 1, path


def test_other_settings_are_another_file(tmp_path: Path) -> None:
    source, place = made(write_wav, tmp_path / "data"), tmp_path / "cache"
    wider = source.replace(bands=20)
    assert_same(cache.load(source, 0, str(place)), source.load(0))
    assert_same(cache.load(wider, 0, str(place)), wider.load(0))
    assert len(kept(place)) == 2
    cache.load(source.replace(standardise=False), 0, str(place))  # this one changes nothing in the file
    assert len(kept(place)) == 2


@pytest.mark.parametrize("write", [write_wav, write_npz])
def test_it_may_lie_beside_the_data(write: Any, tmp_path: Path) -> None:
    source, place = made(write, tmp_path / "data"), tmp_path / "data"
    for _ in range(2):
        cache.load(source, 0, str(place))
    assert len(kept(place)) == 1
    data = next(path for path in place.iterdir() if path.suffix != ".data")
    os.utime(data, ns=(0, 0))
    cache.load(source, 0, str(place))
    assert len(kept(place)) == 2


def test_equal_names_in_two_folders_are_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate("pq"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "a.npz", x=np.full((9, 2), float(number)), y=np.arange(9) % 2)
        os.utime(tmp_path / name / "a.npz", ns=(0, 0))
        monkeypatch.chdir(tmp_path / name)
        found = cache.load(sources.parse({"source": "npz", "file": "a.npz"}), 0, str(tmp_path / "cache"))
        assert (found.inputs == number).all()


class Inheriting(Npz):
    """A source of somebody's own that does not say what it reads."""


class Telling(Inheriting):
    """One that does."""

    reads: ClassVar[tuple[str, ...]] = ("file",)


@pytest.mark.parametrize(("kind", "number"), [(Inheriting, 0), (Telling, 1)])
def test_sources_of_ones_own_say_what_they_read(kind: type[Npz], number: int, tmp_path: Path) -> None:
    source = kind(file=made(write_npz, tmp_path / "data").model_dump()["file"])
    assert_same(cache.load(source, 0, str(tmp_path / "cache")), source.load(0))
    assert len(list((tmp_path / "cache").iterdir())) == number


def test_a_folder_that_may_only_be_read_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, place = made(write_npz, tmp_path / "data"), tmp_path / "cache"
    cache.load(source, 0, str(place))
    monkeypatch.setattr(cache, "_prepare", None)  # root may write everywhere
    assert_same(cache.load(source, 0, str(place)), source.load(0))


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    source = made(write_npz, tmp_path / "data")
    assert_same(cache.load(source, 0, str(tmp_path / "cache"), keep=False), source.load(0))
    assert not (tmp_path / "cache").exists()


def test_files_that_change_meanwhile_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, place = made(write_csv, tmp_path / "data"), tmp_path / "cache"
    load = type(source).load

    def change(self: Source, seed: int) -> Dataset:
        os.utime(tmp_path / "data" / "a.csv", ns=(0, 0))
        return load(self, seed)

    monkeypatch.setattr(type(source), "load", change)
    assert_same(cache.load(source, 0, str(place)), load(source, 0))
    assert list(place.iterdir()) == []


def test_a_file_that_is_deleted_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, place = made(write_csv, tmp_path / "data"), tmp_path / "cache"
    cache.load(source, 0, str(place))
    read = cache.read

    def delete(path: Path) -> Dataset:
        path.unlink()
        return read(path)

    monkeypatch.setattr(cache, "read", delete)
    assert_same(cache.load(source, 0, str(place)), source.load(0))


def test_missing_files_are_reported_by_the_source(tmp_path: Path) -> None:
    source = made(write_npz, tmp_path / "data")
    (tmp_path / "data" / "a.npz").unlink()
    with pytest.raises(DataError, match=r"data\.file = .*: there is no such file"):
        cache.load(source, 0, str(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_generated_data_lies_in_files_that_go_with_it(tmp_path: Path) -> None:
    with arena.in_files(tmp_path):
        array = arena.empty((300, 1000), np.float32)
        assert arena.find(memoryview(array.data)) is not None
        assert arena.find(memoryview(arena.empty((3,), np.float32).data)) is None
    array[:] = 1.0
    descriptors = len(os.listdir("/proc/self/fd"))
    del array
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) < descriptors
    source = sources.parse({"source": "synthetic", "samples": 50})
    for seed in range(2):
        assert_same(cache.load(source, seed, str(tmp_path)), source.load(seed))
    assert list(tmp_path.iterdir()) == []


def test_without_keeping_nothing_is_left_and_what_is_there_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, place = made(write_npz, tmp_path / "data"), tmp_path / "cache"
    wanted = source.load(0)
    place.mkdir()
    found = cache.load(source, 0, str(place), keep=False)
    assert_same(found, wanted)
    assert arena.find(memoryview(found.inputs.data)) is not None
    assert list(place.iterdir()) == []
    cache.load(source, 0, str(place))
    monkeypatch.setattr(type(source), "load", None)
    assert_same(cache.load(source, 0, str(place), keep=False), wanted)


def test_runs_take_it_and_looking_writes_nothing(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "data").mkdir()
    tree = tiny(data=write_npz(tmp_path / "data"), run={"data_cache": str(tmp_path / "cache")}, model={"name": "mlp"})
    config = resolve(tree)
    (tmp_path / "cache").mkdir()
    looked_at = load_data(config, keep=False)
    assert list((tmp_path / "cache").iterdir()) == []
    assert_same(load_data(config), looked_at)
    assert len(kept(tmp_path / "cache")) == 1
