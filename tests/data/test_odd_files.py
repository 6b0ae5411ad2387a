"""Files and settings that are odd on purpose: each is one line that names the file or the setting, and what to do."""

from __future__ import annotations

import json
import os
import struct
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.data.sources import sources
from hpcfsl.errors import ConfigError, DataError, UserError

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 2
WHO = np.array(["a", "b"] * 6)
NO_CHARACTERS = np.array([0x7FFFFFFF, 0xD800], np.uint32).view("<U1").repeat(6)


def load(source: str, **tree: Any) -> Any:
    return sources.parse({"source": source, **tree}).load(0)


def refused(message: str, source: str, kind: type[UserError] = DataError, **tree: Any) -> None:
    with pytest.raises(kind, match=message) as caught:
        load(source, **tree)
    assert len(str(caught.value)) < 900


def npz(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "mine.npz", **arrays)
    return str(folder / "mine.npz")


@pytest.mark.parametrize("value", ["a" * 5000, "~nobody-has-this-name/x"])
@pytest.mark.parametrize("source", ["csv", "wav", "fashion-mnist"])
def test_paths_that_no_system_has(source: str, value: str) -> None:
    key = "file" if source == "csv" else "folder"
    refused(rf"data\.{key} = .*; check the path", source, **{key: value} | ({"label": "y"} if key == "file" else {}))


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        (np.where(Y, np.nan, 1.0), "array client: row 1 is no text, or not finite"),
        (np.array(["2024-01-01", "NaT"] * 6, "M8[D]"), "array client: row 1 is no text"),
        (NO_CHARACTERS, "array client: row 0 is no text"),
        (Y * 1j, "array client has type complex128; give texts or numbers"),
        (np.zeros(12, [("a", "i4")]), "array client has type .*; give texts or numbers"),
    ],
)
def test_clients_that_are_no_names(tmp_path: Path, clients: Any, message: str) -> None:
    refused(message, "npz", file=npz(tmp_path, x=X, y=Y, client=clients))


def test_clients_and_test_clients_of_two_kinds(tmp_path: Path) -> None:
    both = {"x": X, "y": Y, "client": WHO, "x_test": X, "y_test": Y}
    refused("give texts in both, or numbers in both", "npz", file=npz(tmp_path, **both, client_test=Y))
    found = load("npz", file=npz(tmp_path, **both, client_test=WHO.astype("S")))
    assert np.array_equal(found.test_owners, found.owners)


@pytest.mark.parametrize("texts", [NO_CHARACTERS, NO_CHARACTERS[::-1]])
@pytest.mark.parametrize("unit", ["word", "hashed-word", "byte-pair"])
def test_texts_of_what_is_no_character(tmp_path: Path, unit: str, texts: Any) -> None:
    refused("array t: row 0 is no text", "text-table", file=npz(tmp_path, t=texts, l=Y), text="t", label="l", unit=unit)


def test_a_label_that_is_missing_is_no_class(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    gaps = [*[1.0] * 11, float("nan")]
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"x": X[:, 0], "y": gaps}), tmp_path / "a.parquet")
    refused("row 12, column 'y': is empty or not finite", "parquet", file=str(tmp_path / "a.parquet"), label="y")
    texts = np.array(["a", "b"] * 6)
    file = npz(tmp_path, t=texts, l=np.array(gaps))
    refused("array l: row 11 is no text, or not finite", "text-table", file=file, text="t", label="l")


@pytest.mark.parametrize("gap", ["nan", "NaN", "inf", "1e999"])
@pytest.mark.parametrize("rows", [1, 5000])
def test_a_column_of_numbers_with_a_gap_is_no_category(tmp_path: Path, gap: str, rows: int) -> None:
    lines = ["x,y", *["0.5,0"] * rows, f"{gap},1"]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    refused(
        f"row {rows + 1}, column 'x': {gap} is not finite; fill it in", "csv", file=str(tmp_path / "a.csv"), label="y"
    )


def test_the_label_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n", encoding="utf-8")
    tree = {"file": str(tmp_path / "a.csv"), "label": "y", "features": ["x", "y"]}
    refused(r"data\.features = 'y': is to be told from the others; leave it out", "csv", ConfigError, **tree)


@pytest.mark.parametrize("times", [["1", "2", "x", "4"], ["1", "2", "nan", "4"], ["a", "b", "3", "d"]])
def test_times_that_are_written_in_two_ways(tmp_path: Path, times: list[str]) -> None:
    lines = ["t,v", *(f"{time},1" for time in times)]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    tree = {"file": str(tmp_path / "a.csv"), "values": ["v"], "horizon": 1, "window": 1, "time": "t"}
    refused(r"row 3, column 't': .*; write all times alike", "series", **tree, test_share=0.5)


def test_times_of_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    days = np.arange("2024-01-01", "2024-01-13", dtype="M8[D]").astype("M8[s]")[::-1]
    table = arrow.table({"t": days, "v": X[:, 0]})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    tree = {"file": str(tmp_path / "a.parquet"), "values": ["v"], "horizon": 1, "window": 2, "test_share": 0.5}
    assert load("series", **tree, time="t").inputs[0].tolist() == [[22], [20]]
    refused("column 't' is of type timestamp", "series", **tree | {"values": ["t"]})


def test_a_horizon_that_is_too_long_is_named(tmp_path: Path) -> None:
    file = npz(tmp_path, v=X[:, 0])
    refused(r"lower it or data\.horizon = 100,", "series", ConfigError, file=file, values=["v"], horizon=100, window=2)


@pytest.mark.parametrize("name", ["x", "y"])
def test_numbers_that_float32_cannot_hold(tmp_path: Path, name: str) -> None:
    arrays = {"x": X.astype(np.float64), "y": X[:, 0].astype(np.float64)}
    arrays[name][3] = 1e39
    refused("row 3 of .*inputs has a value that is too large for float32", "npz", file=npz(tmp_path, **arrays))


def test_an_archive_is_told_from_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("hello", encoding="utf-8")
    refused(r"cannot be read as \.npz \(it is no archive\)", "npz", file=str(tmp_path / "a.npz"))


def test_a_message_is_short_whatever_a_header_holds(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'shape': (12,), 'a': " + b"[" * 3000 + b"]" * 3000 + b"}\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refused(r" \.\.\. .*write it with numpy\.savez", "npz", file=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("shape", ["(13, 2)", "(4000000000, 2)", "(10000000000000, 2)"])
def test_a_header_that_claims_more_than_is_stored(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + X.tobytes()[:-96]
        archive.writestr("x.npy", content)
    refused(r"array x claims \d+ bytes, but only 0 are stored", "npz", file=str(tmp_path / "a.npz"))


def images(folder: Path, labels: bytes) -> str:
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 8, 3, 4, 2, 2) + bytes(16))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return str(folder)


def test_labels_of_images_that_are_none(tmp_path: Path) -> None:
    fractions = struct.pack(">HBBI4f", 0, 0x0D, 1, 4, *[np.nan] * 4)
    refused("train labels are float32, no whole numbers", "fashion-mnist", folder=images(tmp_path, fractions))
    huge = struct.pack(">HBBI4i", 0, 0x0C, 1, 4, *[2**31 - 1] * 4)
    refused("has class 2147483647; number the classes", "fashion-mnist", folder=images(tmp_path, huge))


def leaf(folder: Path, users: list[str], samples: list[Any]) -> str:
    (folder / "train").mkdir()
    data = {user: {"x": samples, "y": [place % 2 for place in range(len(samples))]} for user in users}
    text = json.dumps({"users": users, "user_data": data})
    (folder / "train/a.json").write_text(text, encoding="utf-8")
    return str(folder)


def test_a_user_who_is_named_twice(tmp_path: Path) -> None:
    refused("names a user twice; get the file again", "leaf-json", folder=leaf(tmp_path, ["a", "b", "a"], [[1.0]] * 4))


def test_more_text_than_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = leaf(tmp_path, ["a"], ["hello"] * 20)
    monkeypatch.setattr("hpcfsl.data.arena.memory_bytes", lambda: 1 << 20)
    refused(r"20 samples of data\.positions = 90000 takes", "leaf-json", folder=folder, positions=90_000)
    assert load("leaf-json", folder=folder, positions=9_000).inputs.shape == (20, 9_000)


def record(path: Path, rate: int = 8000) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(1600))


@pytest.mark.parametrize("source", ["wav", "leaf-json", "fashion-mnist"])
def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path, source: str) -> None:
    (tmp_path / "train").mkdir()
    record(tmp_path / "0_a_0.wav")
    for name in ("0_a_1.wav", "train/a.json", "train-images-idx3-ubyte"):
        os.mkfifo(tmp_path / name)
    message = "has no train-images-idx3-ubyte" if source == "fashion-mnist" else "is no file; remove it"
    refused(message, source, folder=str(tmp_path))


def test_a_device_in_place_of_json_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.json").symlink_to("/dev/zero")
    refused("is no file; remove it", "leaf-json", folder=str(tmp_path))


def test_a_rate_that_would_take_a_filter_of_gigabytes(tmp_path: Path) -> None:
    record(tmp_path / "0_a_0.wav", 999_983)
    refused(
        "999983 Hz has too small a factor in common with data.rate = 16000", "wav", folder=str(tmp_path), rate=16000
    )
    record(tmp_path / "0_a_0.wav", 44_100)
    assert load("wav", folder=str(tmp_path), rate=16000).inputs.shape == (1, 1, 16000)
