"""Arrays in HDF5: what loads, and that a broken, lying or pointing file is one clear line."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.hdf5_file import open_hdf5, read_texts
from hpcfsl.errors import DataError

X, Y = np.arange(24, dtype=np.int16).reshape(4, 6), np.array([0, 2, 1, 0], np.uint8)


def load(path: Path, vocabulary: int = 0) -> Dataset:
    return sources.parse({"source": "hdf5", "file": str(path), "vocabulary": vocabulary}).load(0)


def write(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = value
    return path


@pytest.mark.parametrize("clients", [["eve", "bob", "eve", "ada"], [b"eve", b"bob", b"eve", b"ada"], [30, 20, 30, 10]])
def test_arrays_load_as_they_are(tmp_path: Path, clients: list[Any]) -> None:
    dataset = load(write(tmp_path / "a.h5", x=X, y=Y, client=clients, spare=np.zeros(1)))
    np.testing.assert_array_equal(dataset.inputs, X)
    assert dataset.inputs.dtype == np.int16
    assert dataset.targets.tolist() == [0, 2, 1, 0]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [2, 1, 2, 0]
    assert dataset.num_classes == 3
    assert dataset.test_inputs is None


def test_compressed_text_with_a_test_set(tmp_path: Path) -> None:
    text = np.arange(12).reshape(4, 3) % 5
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("x", "y", "x_test", "y_test"):
            file.create_dataset(name, data=text, chunks=(2, 3), compression="gzip")
    dataset = load(tmp_path / "a.h5", vocabulary=6)
    assert (dataset.vocabulary, dataset.num_classes, dataset.owners) == (6, 6, None)
    np.testing.assert_array_equal(dataset.test_inputs, text)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "has no array y; write it with h5py"),
        ({"x": X, "y": Y.astype(float), "x_test": X, "y_test": Y}, "y and y_test must both hold classes"),
        ({"x": ["a", "b", "c", "d"], "y": Y}, "array /x has type object; give numbers"),
        ({"x": X, "y": Y, "client": [[0], [1]]}, "array client has shape"),
        ({"x": X, "y": Y, "client": [["a"], ["b"]]}, "array /client has shape"),
        ({"x": X, "y": Y, "client": np.zeros(4, [("a", "f4")])}, "array /client has type .*; give strings"),
        ({"x": h5py.ExternalLink("other.h5", "/x"), "y": Y}, "/x is a link to another place"),
        ({"x": h5py.SoftLink("/z"), "y": Y, "z": X}, "/x is a link to another place"),
        ({"x": h5py.Empty("f4"), "y": Y}, "array /x is empty"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path / "a.h5", **arrays))
    assert str(caught.value).startswith(f"file {tmp_path / 'a.h5'}: ")


def test_data_in_another_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(X.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=X.shape, dtype=X.dtype, external=str(tmp_path / "secret"))
        file["y"] = Y
    with pytest.raises(DataError, match="array /x points to another file"):
        load(tmp_path / "a.h5")


@pytest.mark.parametrize(("rows", "message"), [(10**12, "takes .* GB and this machine has"), (10**6, "are stored")])
def test_sizes_that_nothing_fills_are_not_allocated(tmp_path: Path, rows: int, message: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", shape=(rows, 100), dtype="f4", chunks=(10, 100))
        file["y"] = Y
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.h5")


def test_a_missing_file_and_one_that_is_no_hdf5(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.file = .*there is no such file; write it with h5py"):
        load(tmp_path / "none.h5")
    (tmp_path / "a.h5").write_bytes(b"no HDF5 at all")
    with pytest.raises(DataError, match=r"a\.h5: cannot be read as HDF5"):
        load(tmp_path / "a.h5")


STORED: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": (3,)},
    "gzip": {"chunks": (3,), "compression": "gzip", "shuffle": True},
}


@pytest.mark.parametrize("stored", list(STORED))
@given(texts=st.lists(st.text(max_size=40).filter(lambda text: "\0" not in text), min_size=1, max_size=10))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strings_are_what_h5py_reads(tmp_path: Path, stored: str, texts: list[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("t", data=texts * 3, dtype=h5py.string_dtype(), **STORED[stored])
    with open_hdf5(tmp_path / "a.h5") as file:
        assert read_texts(tmp_path / "a.h5", file["t"]) == list(file["t"].asstr()[()]) == texts * 3


@pytest.mark.parametrize(("place", "value"), [(0, 2**31), (8, 99), (12, 7)])
def test_strings_that_are_not_there(tmp_path: Path, place: int, value: int) -> None:
    content = bytearray(good_file())
    element = content.index(struct.pack("<IQ", 1, content.index(b"GCOL")))
    content[element + place : element + place + 4] = struct.pack("<I", value)
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(DataError, match=r"is longer than what is stored|heap of strings at byte"):
        load(tmp_path / "a.h5")


def test_strings_stored_in_another_way(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", x=X, y=Y)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        data = [name * 50 for name in "abab"]
        file.create_dataset("client", data=data, dtype=h5py.string_dtype(), chunks=(4,), compression="lzf")
        stored = file["client"].id.read_direct_chunk((0,))[0] == 0
    assert ("is stored with HDF5 filter 32000" in complaint(lambda: load(tmp_path / "a.h5"))) == stored


def good_file() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("x", data=X, chunks=(2, 6), compression="gzip")
        file["y"], file["client"] = Y, ["a", "b", "a", "b"]
    return stream.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(good_file()))
def test_a_broken_file_is_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    assert "Traceback" not in complaint(lambda: load(tmp_path / "a.h5"))
