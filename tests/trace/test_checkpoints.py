from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hpcfsl.errors import RunFolderError
from hpcfsl.trace import checkpoint as checkpoint_module
from hpcfsl.trace import reader
from hpcfsl.trace.checkpoint import (
    Checkpoint,
    discard_uncommitted,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    write_checkpoint,
)
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.record import RunTexts

TEXTS = RunTexts(config_text="", provenance="{}", result_settings="{}", component_names=())
DTYPES = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "<u8", "|i1", "|b1", "|S5"])


@pytest.fixture
def run(maker, tmp_path: Path) -> Path:
    return maker.run(tmp_path / "run", (1, 2, 3))


def test_nothing_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert latest_checkpoint(folder) is None
    folder.create()
    assert latest_checkpoint(folder) is None
    assert discard_uncommitted(folder, None) == []


def test_the_last_two_are_kept(run: Path) -> None:
    assert [path.name for path in list_checkpoints(RunFolder(run))] == ["round_000003.h5", "round_000002.h5"]


def test_state_comes_back(maker, run: Path) -> None:
    loaded = latest_checkpoint(RunFolder(run))
    expected = maker.checkpoint(2, 3)
    assert (loaded.checkpoint.next_round, loaded.checkpoint.segment_start) == (3, 2)
    assert loaded.checkpoint.config_text == maker.config
    assert np.array_equal(loaded.checkpoint.weights, expected.weights)
    assert loaded.checkpoint.weights.dtype == np.float32
    assert set(loaded.checkpoint.arrays) == {"momentum/7", "count"}
    assert loaded.checkpoint.arrays["count"] == 3
    assert loaded.header.texts.component_names == maker.components
    assert loaded.warnings == ()


@settings(max_examples=30, deadline=None)
@given(
    arrays=st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
        npst.arrays(DTYPES, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        max_size=4,
    ),
    weights=npst.arrays("<f4", st.integers(0, 9)),
)
def test_any_state_comes_back(tmp_path_factory: pytest.TempPathFactory, arrays, weights) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("state"))
    folder.create()
    state = Checkpoint(next_round=4, weights=weights, arrays=arrays, config_text="é = 1", segment_start=4)
    loaded = load_checkpoint(folder, write_checkpoint(folder, state, TEXTS, []))
    assert loaded.checkpoint.weights.tobytes() == weights.tobytes()
    assert loaded.checkpoint.config_text == "é = 1"
    assert set(loaded.checkpoint.arrays) == set(arrays)
    for name, array in arrays.items():
        found = loaded.checkpoint.arrays[name]
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_broken_newest_falls_back(run: Path) -> None:
    path = run / "checkpoints" / "round_000003.h5"
    path.write_bytes(path.read_bytes()[:-1])
    loaded = latest_checkpoint(RunFolder(run))
    assert loaded.checkpoint.next_round == 2
    (warning,) = loaded.warnings
    assert warning.startswith("round_000003.h5 not used: ")
    assert "\n" not in warning


def test_broken_file_of_the_newest_falls_back(run: Path) -> None:
    (run / "trace" / "segment_000002_000003.h5").unlink()
    assert latest_checkpoint(RunFolder(run)).checkpoint.next_round == 2


def test_fallback_then_continued_equals_uninterrupted(maker, run: Path, tmp_path: Path) -> None:
    expected = digest(reader.open(run))
    (run / "checkpoints" / "round_000003.h5").write_bytes(b"")
    maker.run(run, (3,))
    assert digest(reader.open(run)) == expected


def test_broken_file_of_all_says_what_to_do(run: Path) -> None:
    (run / "trace" / "segment_000000_000001.h5").write_bytes(b"x")
    with pytest.raises(
        RunFolderError, match=r"no checkpoint can be used; restore the named file.*segment_000000_000001"
    ) as e:
        latest_checkpoint(RunFolder(run))
    assert "\n" not in str(e.value)


def test_unreadable_checkpoint_is_no_reason_to_fall_back(run: Path) -> None:
    path = run / "checkpoints" / "round_000003.h5"
    path.unlink()
    path.mkdir()
    with pytest.raises(RunFolderError, match="is a directory"):
        latest_checkpoint(RunFolder(run))


@pytest.mark.parametrize("version", ["1.1", "3.0"])
def test_other_major_version_is_no_reason_to_fall_back(
    maker, run: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("hpcfsl.trace.hdf5.FORMAT_VERSION", version)
    maker_state = replace(maker.checkpoint(3, 3))
    write_checkpoint(RunFolder(run), maker_state, TEXTS, [])
    monkeypatch.undo()
    with pytest.raises(
        RunFolderError, match=rf"round_000003.h5: format version {version}, this program knows 2.2; read"
    ):
        latest_checkpoint(RunFolder(run))
    with pytest.raises(RunFolderError, match=rf"format version {version}"):
        reader.open(run)


def test_other_minor_version_is_read(maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfsl.trace.hdf5.FORMAT_VERSION", "2.9")
    maker.run(tmp_path, (1,))
    monkeypatch.undo()
    assert reader.open(tmp_path).rounds_done == 1


def test_other_format_is_refused(maker, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcfsl.trace.hdf5.FORMAT", "other")
    write_checkpoint(RunFolder(run), maker.checkpoint(3, 3), TEXTS, [])
    monkeypatch.undo()
    with pytest.raises(RunFolderError, match="not a hpcfsl-trace file"):
        reader.open(run)


def test_discard_deletes_exactly_what_is_not_listed(run: Path) -> None:
    folder = RunFolder(run)
    committed = {path for path in run.rglob("*") if path.is_file()}
    strangers = [
        "trace/segment_000003_000004.h5",
        "updates/x.h5.partial",
        "checkpoints/round_000004.h5",
        "trace/note.txt",
    ]
    for name in strangers:
        (run / name).write_bytes(b"x")
    (run / "trace" / "folder").mkdir()
    (run / "notes.txt").write_text("mine")
    loaded = load_checkpoint(folder, run / "checkpoints" / "round_000003.h5")
    assert sorted(discard_uncommitted(folder, loaded)) == sorted(strangers)
    assert {path for path in run.rglob("*") if path.is_file()} == committed | {run / "notes.txt"}


def test_discard_after_a_fallback_deletes_the_newer_one(run: Path) -> None:
    folder = RunFolder(run)
    (run / "checkpoints" / "round_000003.h5").write_bytes(b"")
    deleted = discard_uncommitted(folder, latest_checkpoint(folder))
    assert "checkpoints/round_000003.h5" in deleted
    assert "trace/segment_000002_000003.h5" in deleted
    assert reader.open(run).rounds_done == 2
    reader.open(run).verify()


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize("kind", ["partial", "after"])
def test_a_cut_at_any_write_loses_nothing_committed(
    maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path, kind: str
) -> None:
    expected = digest(reader.open(finished))
    write, writes = checkpoint_module.write_atomic, 0

    def cut_at(number: int):
        count = 0

        def wrapped(path: Path, data: bytes) -> None:
            nonlocal count, writes
            count += 1
            writes = count
            if count == number and kind == "partial":
                path.with_name(path.name + ".partial").write_bytes(bytes(data)[: len(data) // 2])
            if count == number and kind == "after":
                write(path, data)
            if count == number:
                raise Cut
            write(path, data)

        return wrapped

    number, total = 1, 99
    while number <= total:
        run = tmp_path / f"{number}"
        with monkeypatch.context() as patch:
            wrapped = cut_at(number)
            patch.setattr("hpcfsl.trace.files.write_atomic", wrapped)
            patch.setattr("hpcfsl.trace.checkpoint.write_atomic", wrapped)
            try:
                maker.run(run, buffer_bytes=1 << 20)
                total = writes
            except Cut:
                pass
        maker.run(run)
        assert digest(reader.open(run)) == expected, f"cut {kind} write {number}"
        shutil.rmtree(run)
        number += 1
    assert total >= 6


def test_checkpoint_is_plain_hdf5_behind_its_user_block(run: Path) -> None:
    path = run / "checkpoints" / "round_000003.h5"
    assert path.read_bytes()[:25] == b"hpcfsl-checkpoint sha256="
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert file["weights"].fletcher32
