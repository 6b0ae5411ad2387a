"""Data files, whole and broken: IDX folders and npz. A broken file is one clear line, whatever is wrong with it."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.broken import complaint

from hpcfsl.data.sources import sources
from hpcfsl.data.sources.idx import read_idx
from hpcfsl.errors import DataError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
FASHION = Path("/usr/share/datasets/fashion-mnist")


def idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_folder(folder: Path, *, compress: bool = False, **changes: np.ndarray[Any, Any]) -> None:
    arrays = {
        "train-images-idx3-ubyte": np.arange(60, dtype=np.uint8).reshape(5, 3, 4),
        "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1], np.uint8),
        "t10k-images-idx3-ubyte": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "t10k-labels-idx1-ubyte": np.array([3, 0], np.uint8),
    }
    for name, array in arrays.items():
        content = idx_bytes(changes.get(name.split("-idx")[0].replace("-", "_"), array))
        (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(content) if compress else content)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", list(CODES))
def test_every_idx_type(tmp_path: Path, kind: str, compress: bool) -> None:
    array = (np.arange(24).reshape(2, 3, 4) - (0 if kind == "u1" else 12)).astype(kind)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(idx_bytes(array)) if compress else idx_bytes(array))
    found = read_idx(path)
    assert found.dtype == np.dtype(kind)
    np.testing.assert_array_equal(found, array)


GOOD_IDX = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends after 0 of 4 bytes"),
        (b"\0\0", "ends after 2 of 4 bytes"),
        (GOOD_IDX[:7], "ends after 3 of 8 bytes"),
        (GOOD_IDX[:-1], "ends after 11 of 12 bytes"),
        (GOOD_IDX + b"\0", r"longer than the shape \(2, 3\)"),
        (b"\x89PNG" + GOOD_IDX, "is no IDX file"),
        (b"\0\0\x07" + GOOD_IDX[3:], "is no IDX file"),
        (b"\0\0\x08\0", "is no IDX file"),
        (b"\0\0\x08\xff" + bytes(1020), "is no IDX file"),
        (b"\0\0\x08\x01\0\0\0\0", r"empty shape \(0,\)"),
        (b"\0\0\x0e\x03" + b"\xff" * 12 + b"abc", "takes .* GB and this machine has"),
        (b"\0\0\x0e\x02\0\1\0\0\0\0\x10\0" + b"abc", "claims 2147483648 bytes, but only 15 are stored"),
        (gzip.compress(GOOD_IDX)[:-9], "ended before"),
        (gzip.compress(GOOD_IDX[:-1]), "ends after 11 of 12 bytes"),
        (b"\x1f\x8b" + GOOD_IDX, "get the file again"),
    ],
)
def test_broken_idx_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken-idx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"file {path}: ")
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(GOOD_IDX) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_never_a_traceback(tmp_path: Path, place: int, byte: int, compress: bool) -> None:
    content = bytearray(gzip.compress(GOOD_IDX) if compress else GOOD_IDX)
    content[place] = byte
    path = tmp_path / "changed"
    path.write_bytes(content)
    assert "\n" not in complaint(lambda: read_idx(path))


def test_a_missing_idx_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory; get the file again"):
        read_idx(tmp_path / "none")


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_four_idx_files(tmp_path: Path, compress: bool) -> None:
    write_folder(tmp_path, compress=compress)
    dataset = sources.parse({"source": "fashion-mnist", "folder": str(tmp_path)}).load(0)
    assert dataset.test_inputs is not None
    assert dataset.test_targets is not None
    assert dataset.inputs.shape == (5, 1, 3, 4)
    assert dataset.inputs.dtype == np.uint8
    assert dataset.test_inputs.shape == (2, 1, 3, 4)
    assert dataset.targets.tolist() == [0, 1, 2, 0, 1]
    assert dataset.num_classes == 4
    assert dataset.owners is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": np.zeros(4, np.uint8)}, "5 train images and 4 labels"),
        ({"t10k_images": np.zeros((2, 12), np.uint8)}, "has 2 axes, not 3"),
        ({"train_labels": np.full(5, -1, np.int8)}, "row 0 of inputs has class -1"),
        ({"t10k_images": np.zeros((2, 4, 4), np.uint8)}, r"test samples have shape \(1, 4, 4\)"),
    ],
)
def test_a_folder_whose_files_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_folder(tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        sources.parse({"source": "fashion-mnist", "folder": str(tmp_path)}).load(0)


def test_a_folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.folder = .*: has no train-images-idx3-ubyte or .*apt install"):
        sources.parse({"source": "fashion-mnist", "folder": str(tmp_path)}).load(0)


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"{FASHION} is not installed")
def test_fashion_mnist_itself() -> None:
    dataset = sources.parse({"source": "fashion-mnist"}).load(0)
    assert dataset.test_inputs is not None
    assert dataset.inputs.shape == (60_000, 1, 28, 28)
    assert dataset.test_inputs.shape == (10_000, 1, 28, 28)
    assert np.bincount(dataset.targets).tolist() == [6000] * 10


def test_npz_text(tmp_path: Path) -> None:
    text = np.arange(12).reshape(4, 3) % 5
    np.savez(tmp_path / "text.npz", x=text, y=text % 2, x_test=text, y_test=text % 2)
    dataset = sources.parse({"source": "npz", "file": str(tmp_path / "text.npz"), "vocabulary": 6}).load(0)
    assert (dataset.vocabulary, dataset.num_classes, dataset.target_shape) == (6, 6, (3,))
    np.savez(tmp_path / "labelled.npz", x=text, y=text[:, 0] % 2)
    labelled = sources.parse({"source": "npz", "file": str(tmp_path / "labelled.npz"), "vocabulary": 6}).load(0)
    assert (labelled.vocabulary, labelled.num_classes, labelled.target_shape) == (6, 2, ())


def npz(path: Path, **arrays: Any) -> Any:
    np.savez(path, **arrays)
    return sources.parse({"source": "npz", "file": str(path)}).load(0)


def test_npz_arrays_load_as_they_are(tmp_path: Path) -> None:
    x, y = np.arange(24, dtype=np.int16).reshape(4, 6), np.array([0, 2, 1, 0], np.uint8)
    dataset = npz(tmp_path / "a.npz", x=x, y=y, client=np.array(["eve", "bob", "eve", "ada"]), spare=np.zeros(1))
    np.testing.assert_array_equal(dataset.inputs, x)
    assert dataset.inputs.dtype == np.int16
    assert dataset.targets.dtype == np.int64
    assert dataset.owners.tolist() == [2, 1, 2, 0]
    assert dataset.num_classes == 3
    assert dataset.test_inputs is None


def test_npz_with_a_test_set_and_no_clients(tmp_path: Path) -> None:
    dataset = npz(tmp_path / "a.npz", x=np.zeros((2, 3)), y=[0, 1], x_test=np.ones((1, 3)), y_test=[4])
    assert dataset.owners is None
    assert dataset.num_classes == 5
    assert dataset.test_inputs.tolist() == [[1.0, 1.0, 1.0]]


X = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "has no array y; write it with"),
        ({"y": [0, 1]}, "has no array x"),
        ({"x": X, "y": ["a", "b"]}, "array y has type <U1"),
        ({"x": X, "y": [0.5, np.nan]}, "row 1 of the targets of inputs has a value that is not finite"),
        ({"x": X, "y": [0.5, 1.0], "x_test": X, "y_test": [0, 1]}, "y and y_test must both hold classes"),
        ({"x": X, "y": [0.5, 1.0], "x_test": X, "y_test": [[0.5, 1.0]] * 2}, "have 2 targets each and training"),
        ({"x": X, "y": [0, 10**9]}, "array y holds 1000000000; number the classes"),
        ({"x": X, "y": np.array([0, 2**64 - 1], np.uint64)}, "number the classes"),
        ({"x": X, "y": 0}, "targets of shape"),
        ({"x": X, "y": [0, 1], "client": [0]}, "owners of shape"),
        ({"x": X, "y": [0, 1], "client": [[0], [1]]}, "array client has shape"),
        ({"x": X, "y": [0, 1], "y_test": [0, 1]}, "must be given together"),
        ({"x": np.array([{}, {}]), "y": [0, 1]}, "Object arrays cannot be loaded"),
        ({"x": np.full((2, 3), np.nan), "y": [0, 1]}, "row 0 of inputs has a value that is not finite"),
    ],
)
def test_npz_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        npz(tmp_path / "a.npz", **arrays)
    assert str(tmp_path / "a.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def good_npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(12.0).reshape(4, 3), y=np.array([0, 1, 0, 1]))
    return stream.getvalue()


def lying_npz() -> bytes:
    stream = io.BytesIO()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000), }".ljust(117) + b"\n"
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut", good_npz()[:-40], lying_npz()])
def test_broken_npz_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.npz: "):
        sources.parse({"source": "npz", "file": str(path)}).load(0)


def test_a_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        sources.parse({"source": "npz", "file": str(tmp_path / "one.npy")}).load(0)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(good_npz()) - 1), st.integers(0, 255))
def test_a_changed_byte_in_npz_is_never_a_traceback(tmp_path: Path, place: int, byte: int) -> None:
    content = bytearray(good_npz())
    content[place] = byte
    path = tmp_path / "changed.npz"
    path.write_bytes(content)
    assert "\n" not in complaint(lambda: sources.parse({"source": "npz", "file": str(path)}).load(0))


def test_a_missing_npz_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.file = .*there is no such file"):
        sources.parse({"source": "npz", "file": str(tmp_path / "none.npz")}).load(0)


def test_floating_point_targets_are_numbers_to_predict(tmp_path: Path) -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.array([0.5, 1.0, -2.0, 3.0], np.float32)
    np.savez(tmp_path / "one.npz", x=x, y=y, x_test=x[:2], y_test=y[:2])
    one = sources.parse({"source": "npz", "file": str(tmp_path / "one.npz")}).load(0)
    assert (one.num_classes, one.num_outputs, one.targets.tolist()) == (0, 1, y[:, None].tolist())
    assert one.test_targets is not None
    assert one.test_targets.tolist() == [[0.5], [1.0]]
    np.savez(tmp_path / "two.npz", x=x, y=np.stack([y, -y], axis=1))
    two = sources.parse({"source": "npz", "file": str(tmp_path / "two.npz")}).load(0)
    assert (two.num_classes, two.num_outputs, two.target_shape) == (0, 2, (2,))
