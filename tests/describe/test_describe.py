"""`hpcfsl data describe`: its numbers by hand, its text, its picture, and that it writes nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner, Result

from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.describe.description import choose_evenly, describe
from hpcfsl.describe.picture import draw

PNG = b"\x89PNG\r\n\x1a\n"


def synthetic(**changes: Any) -> dict[str, dict[str, Any]]:
    data = {"source": "synthetic", "shape": [4], "classes": 3, "samples": 60, "test_samples": 0, "owners": 4}
    tree: dict[str, dict[str, Any]] = {"data": data, "model": {"name": "mlp"}}
    for section, table in changes.items():
        tree[section] = {**tree.get(section, {}), **table}
    return tree


def call(tmp_path: Path, tree: dict[str, Any], *arguments: str) -> Result:
    (tmp_path / "config.toml").write_text(tomli_w.dumps(tree))
    return CliRunner().invoke(main, ["data", "describe", str(tmp_path / "config.toml"), *arguments])


def test_numbers_are_those_of_the_population() -> None:
    found = describe(resolve(synthetic(partition={"test_fraction": 0.2})))
    assert (found.num_clients, found.train_samples, found.largest, found.test_samples) == (4, 48, 12, 12)
    assert found.samples.tolist() == [12] * 4
    assert found.held_out.tolist() == [3] * 4
    assert found.owners.tolist() == [0, 1, 2, 3]
    assert found.counts.sum(axis=1).tolist() == [12] * 4


def test_skew_is_the_distance_of_shares(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 1)), y=[0, 0, 0, 0, 1, 1, 0, 0], client=[0, 0, 0, 0, 1, 1, 1, 1])
    data = {"source": "npz", "file": str(tmp_path / "a.npz")}
    tree = {"data": data, "partition": {"test_fraction": 0.25}, "model": {"name": "mlp"}}
    found = describe(resolve(tree))
    own = found.counts / found.counts.sum(axis=1, keepdims=True)
    total = found.counts.sum(axis=0) / found.counts.sum()
    for client in range(2):
        assert found.skew[client] == pytest.approx(abs(own[client] - total)[0])  # two classes: both differ as much


@pytest.mark.parametrize(("count", "most", "expected"), [(3, 5, [0, 1, 2]), (10, 4, [0, 2, 5, 7]), (1, 1, [0])])
def test_clients_are_chosen_evenly(count: int, most: int, expected: list[int]) -> None:
    assert choose_evenly(count, most).tolist() == expected


def test_the_screen_says_it_all_and_nothing_is_written(tmp_path: Path) -> None:
    result = call(tmp_path, synthetic())
    assert result.exit_code == 0
    assert "synthetic: 60 samples of 4 (float32), 3 classes" in result.output
    assert "4 natural clients" in result.output
    assert "12 samples, held out by the clients" in result.output
    assert "4 by natural; 12.0 training samples each, 12 at most" in result.output
    assert "training samples of each class" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_many_classes_and_clients_are_shortened(tmp_path: Path) -> None:
    tree = synthetic(data={"classes": 30, "samples": 3000}, partition={"rule": "drawing", "clients": 1_000_000})
    result = call(tmp_path, tree, "--clients", "3")
    assert "of which 10,000, evenly spaced" in result.output
    assert "3 of 1,000,000 clients" in result.output
    assert "commonest" in result.output
    assert "clients;" not in call(tmp_path, synthetic(), "--clients", "0").output


def test_text_counts_positions(tmp_path: Path) -> None:
    data = {"source": "synthetic-text", "symbols": 5, "positions": 10, "samples": 40, "owners": 4, "test_samples": 8}
    tree = {"data": data, "model": {"name": "gru-lm"}, "partition": {"rule": "natural"}}
    found = describe(resolve(tree))
    assert found.counts.sum() == found.train_samples * 10
    result = call(tmp_path, tree)
    assert "40 samples of 10 (5 symbols)" in result.output
    assert "8 samples, the data set's own" in result.output
    assert "positions of each class" in result.output


@pytest.mark.parametrize("classes", [3, 100])
def test_the_picture(tmp_path: Path, classes: int) -> None:
    tree = synthetic(data={"classes": classes, "samples": 2000, "owners": 80})
    result = call(tmp_path, tree, "--picture", str(tmp_path / "skew.png"))
    assert result.exit_code == 0
    assert (tmp_path / "skew.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "skew.png"]
    assert draw(describe(resolve(tree))) == (tmp_path / "skew.png").read_bytes()


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"data": {"source": "npz", "file": "/nowhere/a.npz"}}, (), "data.file = '/nowhere/a.npz': there is no such"),
        ({"partition": {"rule": "iid", "clients": 100}}, (), "partition.clients = 100"),
        ({}, ("--picture", "/nowhere/at/all.png"), "/nowhere/at"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, changes: dict[str, Any], arguments: tuple[str, ...], message: str
) -> None:
    tree = {**synthetic(), **changes}
    result = call(tmp_path, tree, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def series(**changes: Any) -> dict[str, dict[str, Any]]:
    data = {"source": "synthetic-series", "owners": 5, "window": 4, "horizon": 2, "steps": 60, "stride": 4}
    return {"data": data, "model": {"name": "mlp"}, "partition": {"rule": "natural"}, **changes}


def test_numbers_to_predict_are_counted_by_ranges(tmp_path: Path) -> None:
    found = describe(resolve(series()))
    targets = found.dataset.targets.mean(axis=1)
    assert found.targets is not None
    assert found.dataset.owners is not None
    for client in range(5):
        own = targets[found.dataset.owners == client]
        np.testing.assert_allclose(found.targets[client], [own.mean(), own.std()], rtol=1e-5)
    assert (len(found.kinds), found.kinds[0][0], found.kinds[-1][:2]) == (8, "<", ">=")
    assert found.counts.sum(axis=1).tolist() == found.samples.tolist()
    low, high = np.quantile(targets, [0.01, 0.99])
    expected = np.histogram(targets, [-np.inf, *np.linspace(low, high, 9)[1:-1], np.inf])[0]
    assert found.counts.sum(axis=0).tolist() == expected.tolist()
    result = call(tmp_path, series(), "--picture", str(tmp_path / "skew.png"))
    assert "4 numbers to predict" in result.output
    assert "clients; means of 4 numbers to predict" in result.output
    assert "deviation" in result.output
    assert (tmp_path / "skew.png").read_bytes().startswith(PNG)


def test_numbers_that_are_all_alike(tmp_path: Path) -> None:
    found = describe(resolve(series(data={**series()["data"], "noise": 0.0, "period": 1e6, "steps": 30})))
    assert found.counts.sum() == found.train_samples


def test_held_out_clients_come_last_and_have_no_training_samples(tmp_path: Path) -> None:
    tree = synthetic(evaluation={"held_out_owners": [1]}, partition={"test_fraction": 0.2})
    found = describe(resolve(tree))
    assert (found.num_clients, found.num_held_out, found.train_samples) == (3, 1, 36)
    assert found.clients.tolist() == [0, 1, 2, 3]
    assert found.owners.tolist() == [0, 2, 3, 1]
    assert found.trains.tolist() == [True, True, True, False]
    assert found.samples.tolist() == [12, 12, 12, 15]
    result = call(tmp_path, tree, "--picture", str(tmp_path / "skew.png"))
    assert "1 more are held out of training" in result.output
    line = next(line for line in result.output.splitlines() if line.startswith("\u2502      3 "))
    assert [cell.strip() for cell in line.strip("\u2502").split("\u2502")][:4] == ["3", "1", "-", "15"]


def test_owners_of_the_test_set_alone_are_said(tmp_path: Path) -> None:
    x, y = np.zeros((4, 1)), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", x=x, y=y, client=[0, 0, 1, 1], x_test=x, y_test=y, client_test=[0, 7, 7, 8])
    data = {"source": "npz", "file": str(tmp_path / "a.npz")}
    result = call(tmp_path, {"data": data, "model": {"name": "mlp"}})
    assert "3 of them are of 2 owners who have nothing to train on" in result.output
