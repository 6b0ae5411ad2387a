"""Partitions of flwr-datasets, of a folder: no network. Skipped where that package is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.partitions import partitions
from hpcfsl.data.sources import sources
from hpcfsl.errors import ConfigError, DataError

WHY = "flwr-datasets is not installed: pip install 'hpcfsl[flwr]'"


def load(folder: Path, **changes: Any) -> Dataset:
    tree = {"source": "flwr-datasets", "dataset": str(folder), "samples": "x", "label": "y", **changes}
    return sources.parse(tree).load(3)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flwr_datasets", None)
    with pytest.raises(DataError, match=r"the package is missing; run: pip install 'hpcfsl\[flwr\]'"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.client = '': goes with data\.partitioner = 'natural-id'"):
        load(tmp_path, partitioner="natural-id")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a table of 60 samples by three owners, and of 6 for testing."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache/datasets"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import warnings

    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("flwr_datasets", reason=WHY)
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (tmp_path / "tables").mkdir()
    for name, count in (("train", 60), ("test", 6)):
        rows = np.arange(count)
        columns = {"x": [[float(row), 1.0] for row in rows], "y": rows % 4, "who": [f"w{row % 3}" for row in rows]}
        parquet.write_table(arrow.table(columns), tmp_path / f"tables/{name}.parquet")
    return tmp_path / "tables"


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"partitioner": "natural-id", "client": "who"}, 3),
        ({"partitions": 5}, 5),
        ({"partitioner": "dirichlet", "partitions": 4, "alpha": 1.0}, 4),
        ({"partitioner": "pathological", "partitions": 4, "classes": 2}, 4),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_partitions_are_clients(changes: dict[str, Any], count: int, folder: Path) -> None:
    dataset = load(folder, test_split="test", **changes)
    assert (dataset.num_owners, dataset.num_classes, dataset.sample_shape) == (count, 4, (2,))
    assert sorted(dataset.inputs[:, 0].tolist()) == list(range(60))
    np.testing.assert_array_equal(dataset.targets, dataset.inputs[:, 0] % 4)
    assert dataset.test_inputs is not None
    assert len(dataset.test_inputs) == 6
    assert partitions.parse({"rule": "natural"}).divide(dataset, 0).num_clients == count
    assert dataset.owners is not None
    if changes.get("partitioner") == "natural-id":
        assert {len(set(dataset.inputs[dataset.owners == owner, 0] % 3)) for owner in range(3)} == {1}
    np.testing.assert_array_equal(load(folder, **changes).inputs, dataset.inputs)


@pytest.mark.filterwarnings("ignore")
def test_mistakes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.samples = 'z': no such column; choose one of x, y, who"):
        load(folder, samples="z")
    with pytest.raises(DataError, match=r"data\.label = 'who': the column does not hold whole numbers"):
        load(folder, label="who")
    with pytest.raises(DataError, match=r"data\.dataset = .*: cannot be read \("):
        load(folder, split="nothing")
    with pytest.raises(DataError, match=r"data\.dataset = 'no/such': cannot be read \("):
        load(folder, dataset="no/such")
