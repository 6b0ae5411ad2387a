"""Test sets that say whose their samples are: each client is tested on its own, whatever the file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.feed import Feed
from hpcfsl.data.partitions import partitions
from hpcfsl.data.sources import sources
from hpcfsl.errors import DataError

OWNERS = ["bea", "ann", "bea", "cy"]
TEST_OWNERS = ["cy", "dan", "bea", "abe", "cy"]
NUMBERS = [1, 0, 1, 2], [2, 4, 1, 3, 2]  # abe and dan have nothing to train on


def write_npz(folder: Path) -> dict[str, Any]:
    x, y = np.arange(4.0)[:, None], np.zeros(4, int)
    x_test, y_test = np.arange(5.0)[:, None], np.zeros(5, int)
    np.savez(folder / "a.npz", x=x, y=y, client=OWNERS, x_test=x_test, y_test=y_test, client_test=TEST_OWNERS)
    return {"source": "npz", "file": str(folder / "a.npz")}


def write_hdf5(folder: Path) -> dict[str, Any]:
    with h5py.File(folder / "a.h5", "w") as file:
        file["x"], file["y"], file["client"] = np.arange(4.0)[:, None], np.zeros(4, int), OWNERS
        file["x_test"], file["y_test"], file["client_test"] = np.arange(5.0)[:, None], np.zeros(5, int), TEST_OWNERS
    return {"source": "hdf5", "file": str(folder / "a.h5")}


def write_csv(folder: Path) -> dict[str, Any]:
    for name, owners in (("a.csv", OWNERS), ("b.csv", TEST_OWNERS)):
        lines = [f"{place},no,{owner}" for place, owner in enumerate(owners)]
        (folder / name).write_text("\n".join(["value,class,who", *lines]))
    files = {"file": str(folder / "a.csv"), "test_file": str(folder / "b.csv")}
    return {"source": "csv", "label": "class", "client": "who", **files}


def write_tff(folder: Path) -> dict[str, Any]:
    for name, owners in (("a.h5", OWNERS), ("b.h5", TEST_OWNERS)):
        with h5py.File(folder / name, "w") as file:
            for owner in sorted(set(owners)):
                values = [place for place, each in enumerate(owners) if each == owner]
                file[f"examples/{owner}/pixels"] = np.array(values, np.float32)[:, None, None]
                file[f"examples/{owner}/label"] = np.zeros(len(values), np.int32)
    return {"source": "tff-hdf5", "file": str(folder / "a.h5"), "test_file": str(folder / "b.h5")}


def write_leaf(folder: Path) -> dict[str, Any]:
    for name, owners in (("train", OWNERS), ("test", TEST_OWNERS)):
        users = sorted(set(owners))
        rows = {user: [place for place, each in enumerate(owners) if each == user] for user in users}
        data = {user: {"x": [[float(row)] for row in rows[user]], "y": [0] * len(rows[user])} for user in users}
        (folder / name).mkdir()
        content = {"users": users, "num_samples": [len(rows[user]) for user in users], "user_data": data}
        (folder / name / "all.json").write_text(json.dumps(content))
    return {"source": "leaf-json", "folder": str(folder)}


@pytest.mark.parametrize("write", [write_npz, write_hdf5, write_csv, write_tff, write_leaf])
def test_each_client_is_tested_on_its_own_samples(write: Any, tmp_path: Path) -> None:
    dataset = sources.parse(write(tmp_path)).load(0)
    found = {
        int(value): int(owner) for value, owner in zip(dataset.inputs.reshape(-1), owners_of(dataset), strict=True)
    }
    assert dataset.test_inputs is not None
    assert dataset.test_owners is not None
    test = dict(zip(dataset.test_inputs.reshape(-1).astype(int).tolist(), dataset.test_owners.tolist(), strict=True))
    assert ([found[row] for row in range(4)], [test[row] for row in range(5)]) == NUMBERS
    assert dataset.num_test_only_owners == 2
    feed = Feed(dataset=dataset, population=partitions.parse({"rule": "natural"}).divide(dataset, 0), standardise=False)
    own = [sorted(feed.client_test(client)[0].reshape(-1).tolist()) for client in range(3)]
    assert own == [[], [2.0], [0.0, 4.0]]
    assert feed.num_test == 5
    assert [len(feed.population.train_rows(client)) for client in range(3)] == [1, 2, 1]


def owners_of(dataset: Dataset) -> NDArray[np.int64]:
    assert dataset.owners is not None
    return dataset.owners


def test_few_clients_of_a_federated_file_have_their_own_test_samples(tmp_path: Path) -> None:
    dataset = sources.parse({**write_tff(tmp_path), "clients": 2}).load(0)
    assert owners_of(dataset).tolist() == [0, 1, 1]
    assert dataset.test_owners is not None
    assert dataset.test_owners.tolist() == [1]


def make(whose: list[int], test_whose: list[int], **changes: Any) -> Dataset:
    values: dict[str, Any] = {
        "inputs": np.arange(len(whose), dtype=np.float32)[:, None],
        "targets": np.zeros(len(whose), np.int64),
        "test_inputs": np.arange(len(test_whose), dtype=np.float32)[:, None],
        "test_targets": np.zeros(len(test_whose), np.int64),
        "owners": np.array(whose),
        "test_owners": np.array(test_whose),
    }
    return Dataset(name="made", num_classes=1, **{**values, **changes})


@given(
    st.lists(st.integers(0, 3), min_size=1).map(lambda more: [0, 1, 2, 3] * 3 + more),
    st.lists(st.integers(0, 3), min_size=1).map(lambda more: [4, *more]),
    st.integers(1, 3),
)
def test_parts_share_the_samples_of_their_owner(owners: list[int], test_owners: list[int], parts: int) -> None:
    dataset = make(owners, test_owners)
    population = partitions.parse({"rule": "natural", "parts": parts}).divide(dataset, 1)
    assert population.test_rows_of_test_set
    for rows, whose in ((population.train_rows, owners), (population.test_rows, test_owners)):
        for owner in range(4):
            held = [rows(client) for client in range(owner * parts, owner * parts + parts)]
            assert sorted(np.concatenate(held).tolist()) == [at for at, each in enumerate(whose) if each == owner]
            assert max(map(len, held)) - min(map(len, held)) <= 1
    assert population.test_pool().tolist() == [at for at, each in enumerate(test_owners) if each < 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_owners": np.array([0])}, "2 test samples but test owners of shape"),
        ({"owners": None}, "2 test samples but test owners"),
        ({"test_owners": np.array([0, 3])}, "test owners must be numbered as the owners"),
        ({"test_owners": np.array([-1, 0])}, "test owners must be numbered as the owners"),
        ({"last_values": (0,)}, "1 last values; give one for each number"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make([0, 1], [0, 1], **changes)


def test_test_clients_need_clients(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 1)), y=[0, 1], x_test=np.ones((1, 1)), y_test=[0], client_test=[0])
    with pytest.raises(DataError, match="has client_test and no client; give both"):
        sources.parse({"source": "npz", "file": str(tmp_path / "a.npz")}).load(0)
