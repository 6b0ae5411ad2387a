"""Windows of series: what they hold, that none crosses a split or a part, and the naive forecast beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.data.sources.windows import Run, Windowed
from hpcfsl.errors import ConfigError, DataError

HOURS = [f"2024-01-{1 + hour // 24:02d}T{hour % 24:02d}:00" for hour in range(40)]


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]))
    return path


def load(path: Path, **changes: Any) -> Dataset:
    return sources.parse({"source": "series", "file": str(path), **changes}).load(0)


def two_homes() -> dict[str, Any]:
    """Return 2 clients with 20 hours each, in no order; the load of home b is 100 above that of a."""
    order = np.random.default_rng(0).permutation(40)
    load = np.concatenate([np.arange(20.0), 100.0 + np.arange(20.0)])
    columns = {
        "time": np.array(HOURS[:20] * 2),
        "home": np.repeat(["b", "a"], 20),
        "load": np.concatenate([load[20:], load[:20]]),
        "heat": np.tile(np.arange(20) % 3, 2),
    }
    return {name: values[order] for name, values in columns.items()}


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".parquet"])
def test_forecasts_from_each_format(suffix: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / f"homes{suffix}", two_homes())
    task = {
        "time": "time",
        "client": "home",
        "values": ["load", "heat"],
        "targets": ["load"],
        "window": 4,
        "horizon": 2,
    }
    dataset = load(path, **task, test_share=0.3)
    assert dataset.inputs.shape == (2 * 9, 4, 2)
    assert dataset.targets.shape == (2 * 9, 2)
    assert (dataset.num_classes, dataset.num_outputs, dataset.num_owners) == (0, 2, 2)
    np.testing.assert_array_equal(dataset.inputs[1, :, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(dataset.inputs[1, :, 1], [1, 2, 0, 1])
    np.testing.assert_array_equal(dataset.targets[1], [5, 6])
    np.testing.assert_array_equal(dataset.targets[10], [105, 106])
    with pytest.raises(ConfigError, match=r"data\.window = 4: no series is long enough for windows in its test part"):
        load(path, **task, test_share=0.1)


def test_the_naive_forecast_repeats_the_last_values(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", two_homes())
    task = {"client": "home", "window": 3, "horizon": 2, "test_share": 0.3, "time": "time"}
    dataset = load(path, values=["load", "heat"], targets=["heat", "load"], **task)
    assert dataset.test_inputs is not None
    naive = dataset.test_inputs.reshape(len(dataset.test_inputs), -1)[:, dataset.last_values]
    np.testing.assert_array_equal(naive, np.tile(dataset.test_inputs[:, -1, ::-1], 2))
    assert load(path, values=["heat"], targets=["load"], **task).last_values == ()


def test_windows_have_the_class_of_their_last_row(tmp_path: Path) -> None:
    columns = {
        "x": np.arange(24.0),
        "what": ["run"] * 8 + ["walk"] * 8 + ["run"] * 8,
        "who": ["a"] * 16 + ["b"] * 8,
        "take": [0] * 8 + [1] * 8 + [0] * 8,
    }
    task = {"values": ["x"], "label": "what", "client": "who", "part": "take", "window": 2, "stride": 2}
    dataset = load(write_table(tmp_path / "a.csv", columns), **task, test_share=0.5)
    np.testing.assert_array_equal(dataset.inputs[:, :, 0], [[0, 1], [2, 3], [8, 9], [10, 11], [16, 17], [18, 19]])
    assert dataset.targets.tolist() == [0, 0, 1, 1, 0, 0]
    assert dataset.owners is not None
    assert dataset.owners.tolist() == [0, 0, 0, 0, 1, 1]
    assert dataset.test_inputs is not None
    np.testing.assert_array_equal(dataset.test_inputs[:, 0, 0], [4, 6, 12, 14, 20, 22])


def test_without_a_client_there_are_no_owners(tmp_path: Path) -> None:
    dataset = load(write_table(tmp_path / "a.csv", {"x": np.arange(30)}), values=["x"], window=2, horizon=1)
    assert (dataset.owners, dataset.test_owners, dataset.num_owners) == (None, None, 0)
    np.testing.assert_array_equal(dataset.inputs[0, :, 0], [0, 1])


class Bare(Windowed):
    """No more than what sources of windows have in common."""

    def load(self, seed: int) -> Dataset:
        raise NotImplementedError


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.floats(0.1, 0.9),
)
def test_windows_are_those_of_a_plain_loop(
    series: list[tuple[int, int]], window: int, horizon: int, stride: int, share: float
) -> None:
    places = np.cumsum([0, *(length for _, length in series)])
    runs = [
        Run(owner=str(owner), values=np.arange(at, at + length, dtype=np.float64)[:, None])
        for at, (owner, length) in zip(places, series, strict=False)
    ]
    expected: tuple[list[Any], list[Any]] = [], []
    for run in runs:
        split = len(run.values) - round(len(run.values) * share)
        for part, first, end in ((0, 0, split), (1, split, len(run.values))):
            for start in range(first, end - window - horizon + 1, stride):
                expected[part].append((run.owner, *run.values[start : start + window + horizon, 0]))
    source = Bare(window=window, stride=stride, test_share=share)
    if not all(expected):
        with pytest.raises(ConfigError):
            source.cut("made", runs, known=[0], ahead=[0], horizon=horizon)
        return
    dataset = source.cut("made", runs, known=[0], ahead=[0], horizon=horizon)
    assert dataset.owners is not None
    assert dataset.test_inputs is not None
    assert dataset.test_targets is not None
    assert dataset.test_owners is not None
    trained = sorted({row[0] for row in expected[0]})
    names = [*trained, *sorted({row[0] for row in expected[1]} - set(trained))]
    assert joined(names, dataset.inputs, dataset.targets, dataset.owners) == expected[0]
    assert joined(names, dataset.test_inputs, dataset.test_targets, dataset.test_owners) == expected[1]


def joined(names: list[str], inputs: NDArray[Any], targets: NDArray[Any], owners: NDArray[np.int64]) -> list[Any]:
    rows = zip(owners, inputs[:, :, 0], targets, strict=True)
    return [(names[owner], *past.tolist(), *ahead.tolist()) for owner, past, ahead in rows]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"data\.horizon = 0: give the steps to forecast, or data\.label"),
        ({"label": "home", "horizon": 2}, r"data\.label = 'home': windows have a class or a forecast"),
        ({"values": ["laod"], "horizon": 1}, r"data\.values = 'laod': unknown; did you mean 'load'"),
        ({"client": "who", "horizon": 1}, r"data\.client = 'who': unknown"),
        ({"values": ["load", "load"], "horizon": 1}, r"data\.values = .*twice"),
        ({"window": 40, "horizon": 1}, r"data\.window = 40: no series is long enough for windows in its training"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", two_homes())
    with pytest.raises(ConfigError, match=message):
        load(path, **{"values": ["load"], **changes})


def test_windows_that_do_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_table(tmp_path / "a.csv", two_homes())
    monkeypatch.setattr("hpcfsl.data.arena.memory_bytes", lambda: 100)
    with pytest.raises(
        ConfigError, match=r"data\.stride = 1: all windows take .* GB and this machine has .*; raise it"
    ):
        load(path, values=["load"], window=4, horizon=1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x\n1\ntwo\n", r"a\.csv: row 2, column 'x': 'two' is no finite number; mend it"),
        ("a.csv", "x,y\n1,2\n,3\n", r"a\.csv: row 2, column 'x': is empty or not finite; fill it in"),
        ("a.csv", "x\n", r"a\.csv: has no rows"),
        ("a.csv", "x\nnan\n", r"row 1, column 'x': 'nan' is no finite number"),
        ("a.npz", "no zip", r"a\.npz: cannot be read as \.npz"),
        ("a.parquet", "PAR1 no parquet", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_broken_files(name: str, content: str, message: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name, values=["x"], window=2, horizon=1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": np.ones((3, 2))}, "array x has shape"),
        ({"x": np.ones(3), "who": np.ones(2)}, "array x has shape|array who has shape"),
        ({"x": np.array(["a", "b"])}, "array x has type <U1; give numbers"),
        ({"x": np.array([1.0, np.inf])}, "row 2, column 'x': is empty or not finite"),
    ],
)
def test_arrays_that_are_no_columns(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz", values=["x"], window=1, horizon=1, **({"client": "who"} if "who" in columns else {}))


class TestSynthetic:
    def make(self, seed: int = 1, **changes: Any) -> Dataset:
        return sources.parse({"source": "synthetic-series", **changes}).load(seed)

    def test_shapes_and_clients(self) -> None:
        dataset = self.make(owners=3, columns=2, window=10, horizon=4)
        assert dataset.sample_shape == (10, 2)
        assert dataset.target_shape == (8,)
        assert dataset.num_owners == 3
        assert len(dataset) == 3 * (320 - 13)
        np.testing.assert_array_equal(dataset.targets[0].reshape(4, 2)[0], dataset.inputs[10, 0])

    def test_the_seed_alone_decides(self) -> None:
        np.testing.assert_array_equal(self.make().inputs, self.make().inputs)
        assert (self.make().inputs != self.make(seed=2).inputs).all()

    def test_a_season_comes_back(self) -> None:
        dataset = self.make(noise=0.0, difference=0.0, owners=1, window=1, horizon=1, columns=1, steps=2000)
        values = dataset.inputs.reshape(-1)
        np.testing.assert_allclose(values[:-240], values[240:], atol=1e-4)
        assert values.std() > 0.3

    def test_too_much_for_memory(self) -> None:
        with pytest.raises(ConfigError, match=r"data\.steps = 100000000: all series take"):
            self.make(steps=100_000_000, owners=1_000_000)
