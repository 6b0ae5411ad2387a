from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.errors import DataError, UserError
from hpcfsl.trace.digest import digest

Maker = Callable[..., dict[str, dict[str, Any]]]
EXAMPLE = Path(__file__).parent.parent / "examples" / "own_model.py"
INPUTS = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
TARGETS = (INPUTS[:, 0] > 0).astype(np.int32)


class Branches(nn.Module):
    """A module that is no chain: two branches join before the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)
        self.join, self.head = nn.Tanh(), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.join(self.left(x) * self.right(x)))


def settings(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    small = {"run": {"rounds": 2, "device": "cpu"}, "partition": {"rule": "iid", "clients": 8}}
    return {**small, "model": {"cut": "join"}, "groups": {"number": 2}, "training": {"batch_size": 4}, **sections}


class TestOwnModelAndData:
    def test_they_take_the_place_of_the_configured_ones(self, tmp_path: Path) -> None:
        run = hpcfsl.run(settings(), out=tmp_path / "run", model=Branches(), inputs=INPUTS, targets=TARGETS)
        assert run.status == "finished"
        assert run.weights().shape == (2 * (6 * 4 + 4) + 4 * 2 + 2,)
        assert run.provenance["cut"] == "join"
        assert run.column("participation", "bytes_smashed_up")[0] == run.column("participation", "num_samples")[0] * 16

    def test_weights_of_the_given_module_do_not_matter_only_the_seed(self, tmp_path: Path) -> None:
        runs = [
            hpcfsl.run(settings(), out=tmp_path / name, model=Branches(), inputs=INPUTS.tolist(), targets=TARGETS)
            for name in "ab"
        ]
        assert digest(runs[0]) == digest(runs[1])

    def test_owners_make_natural_clients(self, tmp_path: Path) -> None:
        owners = np.arange(120) // 20
        run = hpcfsl.run(
            settings(partition={"rule": "natural"}),
            out=tmp_path / "run",
            model=Branches(),
            inputs=INPUTS,
            targets=TARGETS,
            owners=owners,
        )
        assert run.table("clients")["owner"].tolist() == list(range(6))

    def test_a_cut_that_the_module_lacks(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"model\.cut = 'middle': "):
            hpcfsl.run(
                settings(model={"cut": "middle"}),
                out=tmp_path / "run",
                model=Branches(),
                inputs=INPUTS,
                targets=TARGETS,
            )

    @pytest.mark.parametrize(
        ("arrays", "text"),
        [
            ({"inputs": INPUTS}, "inputs, targets and owners go together"),
            ({"targets": TARGETS}, "inputs, targets and owners go together"),
            ({"owners": TARGETS}, "inputs, targets and owners go together"),
            ({"inputs": INPUTS, "targets": TARGETS[1:]}, "120 inputs"),
            ({"inputs": INPUTS[:0], "targets": TARGETS[:0]}, "give at least one sample"),
            ({"inputs": INPUTS, "targets": TARGETS - 1}, "has class -1; classes must be 0 .."),
            ({"inputs": INPUTS, "targets": TARGETS * 1j}, "targets: have type complex128; give integers from 0"),
            ({"inputs": INPUTS, "targets": TARGETS + np.inf}, "row 0 of the targets of inputs has a value that is not"),
            ({"inputs": INPUTS, "targets": TARGETS[:, None]}, "targets"),
            ({"inputs": INPUTS, "targets": ["a"] * 120}, "targets"),
            ({"inputs": 3, "targets": 4}, "inputs have shape ()"),
            ({"inputs": [["a"]], "targets": [0]}, "inputs have type <U1; give numbers"),
            ({"inputs": [[1], [1, 2]], "targets": [0, 1]}, "inputs: is no array"),
            ({"inputs": [[np.nan], [1.0]], "targets": [0, 1]}, "row 0 of inputs has a value that is not finite"),
            ({"inputs": INPUTS, "targets": TARGETS, "owners": TARGETS[1:]}, "owners of shape (119,)"),
            ({"inputs": INPUTS, "targets": TARGETS, "owners": TARGETS * 0.5}, "owners: have type float64"),
            ({"inputs": INPUTS, "targets": TARGETS, "owners": TARGETS - 1}, "owners must be numbered 0, 1, 2"),
        ],
    )
    def test_arrays_that_do_not_fit_are_named(self, tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
        with pytest.raises(UserError) as caught:
            hpcfsl.run(settings(), out=tmp_path / "run", model=Branches(), **arrays)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)


class TestRun:
    def test_tables_and_a_resolved_configuration_are_the_same(self, tiny: Maker, tmp_path: Path) -> None:
        first = hpcfsl.run(tiny(), out=tmp_path / "a")
        second = hpcfsl.run(resolve(tiny()), out=str(tmp_path / "b"))
        assert digest(first) == digest(second)

    def test_a_mistake_is_a_value_error(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"run\.rounds = 0"):
            hpcfsl.run({"run": {"rounds": 0}}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_names_of_the_package(self) -> None:
        assert hpcfsl.__version__.count(".") == 2
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = hpcfsl.nothing  # type: ignore[attr-defined]
        assert issubclass(DataError, UserError)


def test_the_example_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [str(EXAMPLE), str(tmp_path / "run")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    accuracy = hpcfsl.open(tmp_path / "run").column("rounds", "test_accuracy")[-1]
    assert accuracy > 0.9
    assert capsys.readouterr().out == f"accuracy {100 * accuracy:.1f} %, status finished\n"
