"""CIFAR's batches, and pickles that ask for more than plain data."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from support.broken import broken, complaint

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.pickles import read_pickled_dict
from hpcfsl.errors import DataError

PIXELS = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)


def load(folder: Path, labels: str = "fine") -> Dataset:
    return sources.parse({"source": "cifar", "folder": str(folder), "labels": labels}).load(0)


def batch(**changes: Any) -> dict[bytes, Any]:
    content = {b"data": PIXELS, b"labels": [3, 9], b"batch_label": b"one", b"filenames": [b"a.png", b"b.png"]}
    return content | {key.encode(): value for key, value in changes.items()}


def write_ten(folder: Path, protocol: int = 2, **changes: Any) -> Path:
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        content = batch(**changes) if name == "data_batch_2" else batch()
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cifar_10(tmp_path: Path, protocol: int) -> None:
    dataset = load(write_ten(tmp_path, protocol))
    assert (dataset.name, dataset.num_classes, dataset.owners) == ("cifar-10", 10, None)
    assert dataset.inputs.shape == (10, 3, 32, 32)
    assert dataset.inputs.dtype == np.uint8
    np.testing.assert_array_equal(dataset.inputs[2:4].reshape(2, -1), PIXELS)
    assert dataset.targets.tolist() == [3, 9] * 5
    assert dataset.test_inputs is not None
    assert dataset.test_inputs.shape == (2, 3, 32, 32)


def test_cifar_100_lies_in_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test"):
        content = {b"data": PIXELS, b"fine_labels": [99, 0], b"coarse_labels": [19, 1]}
        (tmp_path / "cifar-100-python" / name).write_bytes(pickle.dumps(content, 2))
    fine, coarse = load(tmp_path), load(tmp_path, "coarse")
    assert (fine.num_classes, fine.targets.tolist()) == (100, [99, 0])
    assert (coarse.num_classes, coarse.targets.tolist()) == (20, [19, 1])


def test_strings_and_arrays_that_python_2_wrote(tmp_path: Path) -> None:
    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + short(b"b") + b"\x87R"
    kind = (
        b"cnumpy\ndtype\n"
        + short(b"u1")
        + b"K\0K\1\x87R(K\3"
        + short(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    )
    state = b"(K\1K\2M\0\x0c\x86" + kind + b"\x89T" + struct.pack("<I", PIXELS.size) + PIXELS.tobytes() + b"tb"
    content = b"\x80\2}(" + short(b"data") + array + state + short(b"labels") + b"](K\3K\x09eu."
    assert set(pickle.loads(content, encoding="bytes")) == {b"data", b"labels"}
    (tmp_path / "old").write_bytes(content)
    found = read_pickled_dict(tmp_path / "old")
    assert found["labels"] == [3, 9]
    np.testing.assert_array_equal(found["data"], PIXELS)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=5,
)
ARRAYS = st_numpy.arrays(st.sampled_from(["u1", "<i2", ">i4", "f8", "?"]), st_numpy.array_shapes(), elements={})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), VALUES | ARRAYS, max_size=3), st.integers(0, pickle.HIGHEST_PROTOCOL), st.booleans())
def test_plain_data_is_what_pickle_loads(tmp_path: Path, data: dict[str, Any], protocol: int, fortran: bool) -> None:
    data = {
        key: np.asfortranarray(value) if fortran and isinstance(value, np.ndarray) else value
        for key, value in data.items()
    }
    (tmp_path / "a").write_bytes(pickle.dumps(data, protocol))
    found = read_pickled_dict(tmp_path / "a")
    assert found.keys() == data.keys()
    for key, value in data.items():
        np.testing.assert_equal(found[key], value)


class Runs:
    """What an attacker would put into a pickle."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_never_runs_anything(tmp_path: Path, protocol: int) -> None:
    write_ten(tmp_path, protocol, labels=Runs(tmp_path / "flag"))
    with pytest.raises(DataError, match=r"data_batch_2: wants to load '(posix|nt)\.system', which could run a program"):
        load(tmp_path)
    assert not (tmp_path / "flag").exists()


class Named:
    """An ordinary class, which a pickle would make an instance of."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": Named()}, r"data_batch_2: wants to load "),
        ({"labels": [3]}, r"data_batch_2: has no list labels of 2 numbers"),
        ({"labels": [3, 10]}, r"data_batch_2: record 1 of labels is not a number 0 \.\. 9"),
        ({"labels": [3, "a"]}, r"data_batch_2: record 1 of labels"),
        ({"data": PIXELS[:, 1:]}, r"data_batch_2: has no array data of bytes"),
        ({"data": PIXELS.astype(object)}, r"data_batch_2: is no pickle, or damaged \('an array of type object'"),
        ({"data": PIXELS.tolist()}, r"data_batch_2: has no array data of bytes"),
    ],
)
def test_batches_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(write_ten(tmp_path, **changes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no pickle, or damaged"),
        (b"\x80\2].", "holds a list, not a dictionary"),
        (b"\x80\2}", "is no pickle, or damaged"),
        (b"\x80\2}r\xff\xff\xff\x7f.", ""),
        (b"\x80\2B\xff\xff\xff\x7f}.", "is no pickle, or damaged"),
        (b"\x80\4\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "is no pickle, or damaged"),
        (b"\x80\2}" + b")\x85" * 1 + b"2" * 50 + b".", "uses the pickle operation DUP"),
        (b"\x80\2}(" + b")" + b"q\0h\0\x86" * 60 + b"Nu.", "a key that is neither text nor number"),
        (b"\x80\2}\x82\1.", "uses the pickle operation EXT1"),
        (b"(ios\nsystem\n.", "uses the pickle operation INST"),
    ],
)
def test_odd_pickles(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(content)
    assert message in complaint(lambda: read_pickled_dict(tmp_path / "a"))


def test_folders_without_batches(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.folder = .*: there is no such folder; set it to"):
        load(tmp_path / "none")
    with pytest.raises(DataError, match=r"data\.folder = .*: has neither data_batch_1 nor train; set it to"):
        load(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps({b"data": PIXELS, b"fine_labels": [0, 1]}))
    with pytest.raises(DataError, match=r"test: No such file or directory"):
        load(tmp_path)


SMALL = pickle.dumps({"data": np.arange(6, dtype=">i2").reshape(2, 3), "labels": [1, 2], "name": b"x"}, 4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(SMALL) | broken(pickletools.optimize(pickle.dumps({"a": np.ones(2), "b": ["c", 1.5]}, 0))))
def test_a_broken_pickle_is_never_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert "Traceback" not in complaint(lambda: read_pickled_dict(tmp_path / "a"))
