"""Class labels stored as floats, and numbers stored as integers: the loss decides what they are, else the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import hpcfsl
from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.data.dataset import Dataset
from hpcfsl.data.sources import sources
from hpcfsl.errors import ConfigError, DataError, UserError
from hpcfsl.targets import load_data, note_on_targets, settle_targets
from hpcfsl.trace.digest import digest

X = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)
LABELS = np.arange(60) % 3


def write(folder: Path, kind: str, **arrays: Any) -> dict[str, Any]:
    """Write a file of arrays and return the section `data` that reads it."""
    path = folder / f"mine.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return {"source": kind, "file": str(path)}


def tree(data: dict[str, Any], model: str = "digits-cnn", **training: Any) -> dict[str, Any]:
    return {
        "run": {"rounds": 2, "device": "cpu"},
        "data": data,
        "partition": {"rule": "iid", "clients": 6},
        "groups": {"number": 2},
        "model": {"name": model},
        "training": {"batch_size": 4, **training},
    }


def settled(folder: Path, y: Any, model: str = "digits-cnn", *, loss: str = "auto", **arrays: Any) -> Dataset:
    return load_data(resolve(tree(write(folder, "npz", x=X[: len(y)], y=y, **arrays), model, loss=loss)))


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(("model", "loss"), [("digits-cnn", "auto"), ("mlp", "cross-entropy")])
def test_classes_stored_as_floats_give_the_bits_of_integers(
    tmp_path: Path, kind: str, dtype: Any, model: str, loss: str
) -> None:
    runs = []
    for name, labels in (("whole", LABELS), ("floats", LABELS.astype(dtype))):
        data = write(tmp_path, kind, x=X, y=labels, x_test=X[:9], y_test=labels[:9])  # the same path: the same digest
        runs.append(hpcfsl.run(tree(data, model, loss=loss), out=tmp_path / name))
    assert digest(runs[0]) == digest(runs[1])
    assert "accuracy" in runs[1].labels("metrics", "metric")


@pytest.mark.parametrize(
    ("y", "model", "loss", "classes"),
    [
        (LABELS * 1.0, "digits-cnn", "auto", 3),
        (LABELS[:, None] * 1.0, "digits-cnn", "auto", 3),  # a column
        (LABELS * 1.0, "digits-cnn", "squared", 0),
        (LABELS * 1.0, "mlp", "auto", 0),  # tells numbers as often as classes
        (LABELS * 1.0, "mlp", "cross-entropy", 3),
        (LABELS * 2.0, "digits-cnn", "auto", 0),  # a gap: ages, say
        (LABELS * 2.0, "digits-cnn", "cross-entropy", 5),
        (LABELS + 0.5, "digits-cnn", "auto", 0),
        (LABELS - 1.0, "digits-cnn", "auto", 0),
        (LABELS * 0.0, "digits-cnn", "auto", 0),  # one class is none
        (LABELS, "mlp", "auto", 3),
        (LABELS, "mlp", "absolute", 0),
    ],
)
def test_the_loss_decides_or_else_the_model(tmp_path: Path, y: Any, model: str, loss: str, classes: int) -> None:
    found = settled(tmp_path, y, model, loss=loss)
    assert found.num_classes == classes
    assert found.targets.dtype == (np.int64 if classes else np.float64)
    np.testing.assert_array_equal(found.targets.reshape(-1), y.reshape(-1))


def test_test_samples_may_have_the_class_that_closes_the_gap(tmp_path: Path) -> None:
    y, y_test = np.array([0.0, 2.0] * 4), np.array([1.0, 3.0])
    assert settled(tmp_path, y, x_test=X[:2], y_test=y_test).num_classes == 4
    assert settled(tmp_path, y).num_classes == 0


def test_symbols_at_each_position_stored_as_floats(tmp_path: Path) -> None:
    x = np.arange(40).reshape(8, 5) % 7
    data = write(tmp_path, "npz", x=x, y=(x + 1.0) % 7) | {"vocabulary": 7}
    found = load_data(resolve(tree(data, "gru-lm", loss="cross-entropy")))
    assert (found.num_classes, found.target_shape) == (7, (5,))
    assert found.targets.dtype == np.int64


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (LABELS + 0.5, r"data set .*mine\.npz: row 0 of the targets is 0\.5; classes are whole numbers .*; mend them"),
        (LABELS - 1.0, r"row 0 of the targets is -1\.0"),
        (LABELS + 1e6, r"row 0 of the targets is 1000000\.0"),
        (np.eye(3)[LABELS], r"are 3 numbers a sample; a class is one \(of one-hot rows, numpy\.argmax\(y, axis=1\)\)"),
    ],
)
def test_numbers_that_are_no_classes_are_one_line(tmp_path: Path, y: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^training\.loss = 'cross-entropy': .*{message}") as caught:
        settled(tmp_path, y, loss="cross-entropy")
    assert "squared, absolute or huber" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "model", "loss", "note"),
    [
        (
            LABELS * 1.0,
            "digits-cnn",
            "auto",
            "0.0 to 2.0, taken as 3 classes because of model 'digits-cnn'; for numbers",
        ),
        (LABELS * 1.0, "mlp", "cross-entropy", "0.0 to 2.0, taken as 3 classes because of training.loss"),
        (LABELS * 1.0, "mlp", "auto", "all whole numbers from 0, taken as numbers to predict; for classes set"),
        (LABELS, "mlp", "squared", "are integers, taken as numbers because of training.loss"),
        (LABELS * 1.0, "mlp", "squared", ""),
        (LABELS + 0.5, "digits-cnn", "auto", ""),
        (LABELS, "digits-cnn", "auto", ""),
    ],
)
def test_a_line_says_what_was_taken(tmp_path: Path, y: Any, model: str, loss: str, note: str) -> None:
    config = resolve(tree(write(tmp_path, "npz", x=X, y=y), model, loss=loss))
    found = note_on_targets(config, load_data(config))
    assert found == "" if not note else note in found


def test_describe_and_run_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path, "npz", x=X, y=LABELS * 1.0)
    text = "\n".join(f'{key} = "{value}"' for key, value in data.items())
    (tmp_path / "c.toml").write_text(f'[data]\n{text}\n[partition]\nrule = "iid"\nclients = 6\n')
    shown = CliRunner().invoke(main, ["data", "describe", str(tmp_path / "c.toml")])
    assert shown.exit_code == 0, shown.output
    assert "3 classes" in shown.output
    assert "taken as 3 classes because of model 'digits-cnn'" in " ".join(shown.output.split())
    run = hpcfsl.run(tree(data), out=tmp_path / "run")
    assert "warning: the targets of" in capsys.readouterr().err
    assert any(b"taken as 3 classes" in text for text in run.column("events", "text").tolist())


class TestArraysOfPython:
    def test_floats_are_classes_where_the_loss_says_so(self, tmp_path: Path) -> None:
        runs = [
            hpcfsl.run(tree({}, "mlp", loss="cross-entropy"), out=tmp_path / str(number), inputs=X, targets=targets)
            for number, targets in enumerate((LABELS, LABELS * 1.0))
        ]
        assert digest(runs[0]) == digest(runs[1])

    def test_integers_are_numbers_where_the_loss_says_so(self, tmp_path: Path) -> None:
        runs = [
            hpcfsl.run(tree({}, "mlp", loss="huber"), out=tmp_path / str(number), inputs=X, targets=targets)
            for number, targets in enumerate((LABELS, LABELS * 1.0))
        ]
        assert digest(runs[0]) == digest(runs[1])
        assert "mae" in runs[0].labels("metrics", "metric")

    def test_ones_own_module_decides_nothing_and_its_error_names_the_fix(self, tmp_path: Path) -> None:
        from torch import nn

        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        with pytest.raises(UserError, match=r"return numbers \[2, 1\], or store classes as integers"):
            hpcfsl.run(tree({}), out=tmp_path / "run", model=module, inputs=X, targets=LABELS * 1.0)


def test_data_that_know_what_they_are_stay_so() -> None:
    config = resolve({"data": {"source": "synthetic-series"}, "model": {"name": "mlp"}})
    dataset = config.data.load(1)
    assert settle_targets(config, dataset) is dataset
    assert note_on_targets(config, dataset) == ""


class TestTables:
    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_labels_of_floats_are_classes(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"a.{kind}"
        if kind == "csv":
            path.write_text("a,label\n" + "".join(f"{row},{row % 3}.0\n" for row in range(12)))
        else:
            arrow = pytest.importorskip("pyarrow")
            from pyarrow import parquet

            columns = {"a": np.arange(12.0), "label": np.arange(12.0) % 3}
            parquet.write_table(arrow.table(columns), path)
        found = sources.parse({"source": kind, "file": str(path), "label": "label"}).load(0)
        assert (found.num_classes, found.targets.tolist()) == (3, [0, 1, 2] * 4)

    @pytest.mark.parametrize("source", ["csv", "text-table"])
    def test_one_class_written_in_two_ways_is_one_line(self, tmp_path: Path, source: str) -> None:
        (tmp_path / "a.csv").write_text("a,label\n1,0\n2,1\n3,0\n")
        (tmp_path / "b.csv").write_text("a,label\n1,0.0\n2,1.0\n")
        tree = {"file": str(tmp_path / "a.csv"), "test_file": str(tmp_path / "b.csv"), "label": "label"}
        if source == "text-table":
            tree["text"] = "a"
        with pytest.raises(DataError, match=r"a\.csv: .* 'label': '0' and '0\.0' are one number; write .* in one way"):
            sources.parse({"source": source, **tree}).load(0)
