"""Data kept on a disk equals what was loaded, is made again when its files change, and may exceed the memory."""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, boolean_dtypes, floating_dtypes, integer_dtypes
from support.broken import broken, complaint

from hpcfsl.config import resolve
from hpcfsl.data import arena, cache
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.base import Source
from hpcfsl.data.sources.npz import Npz
from hpcfsl.errors import DataError
from hpcfsl.targets import load_data

ROWS = 2000
X = np.random.default_rng(0).normal(size=(ROWS, 3, 8, 8)).astype(np.float32)  # 1.5 MB: a large array
Y = np.arange(ROWS) % 5
WHO = np.array([f"c{row % 7}" for row in range(ROWS)])


def write_npz(folder: Path) -> dict[str, Any]:
    np.savez(folder / "a.npz", x=X, y=Y, client=WHO, x_test=X[::3], y_test=Y[::3], client_test=WHO[::3])
    return {"source": "npz", "file": str(folder / "a.npz")}


def write_hdf5(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"], file["client"] = X, Y.astype(np.float64), WHO.astype("S")
    return {"source": "hdf5", "file": str(folder / "a.h5")}


def write_tff(folder: Path) -> dict[str, Any]:
    for name, step in ("train", 1), ("test", 4):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for who in np.unique(WHO):
                rows = np.flatnonzero(who == WHO)[::step]
                file[f"examples/{who}/image"], file[f"examples/{who}/label"] = X[rows], Y[rows].astype(np.int32)
    return {"source": "tff-hdf5", "file": str(folder / "train.h5"), "test_file": str(folder / "test.h5")}


def write_csv(folder: Path) -> dict[str, Any]:
    lines = ["a,b,kind", *(f"{row / 7},{row % 3},k{row % 4}" for row in range(300))]
    (folder / "a.csv").write_text("\n".join(lines))
    return {"source": "csv", "file": str(folder / "a.csv"), "label": "kind"}


def write_series(folder: Path) -> dict[str, Any]:
    lines = ["home,load", *(f"h{home},{home + step / 9}" for home in range(3) for step in range(60))]
    (folder / "a.csv").write_text("\n".join(lines))
    where = {"file": str(folder / "a.csv"), "client": "home", "values": ["load"]}
    return {"source": "series", **where, "window": 4, "horizon": 2, "test_share": 0.4}


def write_texts(folder: Path) -> dict[str, Any]:
    lines = ["text,stars,who", *(f"word{row % 11} and more,{row % 5},w{row % 3}" for row in range(90))]
    (folder / "a.csv").write_text("\n".join(lines))
    return {"source": "text-table", "file": str(folder / "a.csv"), "text": "text", "label": "stars", "client": "who"}


def write_leaf(folder: Path) -> dict[str, Any]:
    (folder / "train").mkdir()
    data = {f"u{user}": {"x": [[0.5, user], [1.5, 2]], "y": [0, 1]} for user in range(3)}
    (folder / "train" / "a.json").write_text(
        json.dumps({"users": list(data), "num_samples": [2] * 3, "user_data": data})
    )
    return {"source": "leaf-json", "folder": str(folder)}


def write_wav(folder: Path) -> dict[str, Any]:
    for number in range(6):
        with wave.open(str(folder / f"{number % 2}_s{number % 3}_{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(((np.arange(8000) * (number + 3)) % 2000).astype("<i2").tobytes())
    return {"source": "wav", "folder": str(folder), "features": "mfcc"}


WRITERS = [write_npz, write_hdf5, write_tff, write_csv, write_series, write_texts, write_leaf, write_wav]


def made(write: Any, folder: Path) -> Source:
    folder.mkdir()
    return sources.parse(write(folder))


def assert_same(found: Dataset, wanted: Dataset) -> None:
    for name, value in vars(wanted).items():
        other = getattr(found, name)
        if isinstance(value, np.ndarray):
            assert (other.dtype, other.shape) == (value.dtype, value.shape), name
            np.testing.assert_array_equal(other, value)
        else:
            assert other == value, name


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.data"))


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

    source: Literal["inheriting"] = "inheriting"  # type: ignore[assignment]


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
    old, young = place / "x.1.unfinished", place / "x.2.unfinished"
    for path, days in ((old, 2), (young, 0.5)):
        path.touch()
        os.utime(path, (time.time() - days * 86400,) * 2)
    cache.load(source, 0, str(place))
    assert (old.exists(), young.exists()) == (False, True)


def test_runs_take_it_and_looking_writes_nothing(tmp_path: Path, tiny: Any) -> None:
    (tmp_path / "data").mkdir()
    tree = tiny(data=write_npz(tmp_path / "data"), run={"data_cache": str(tmp_path / "cache")}, model={"name": "mlp"})
    config = resolve(tree)
    (tmp_path / "cache").mkdir()
    looked_at = load_data(config, keep=False)
    assert list((tmp_path / "cache").iterdir()) == []
    assert_same(load_data(config), looked_at)
    assert len(kept(tmp_path / "cache")) == 1


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
