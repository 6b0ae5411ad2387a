"""`hpcfsl models`: its numbers against the models that are really split, its text, its errors, its page."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner, Result
from support.model_cases import CASES, built
from torch import Tensor, nn

from hpcfsl.cli import main
from hpcfsl.describe.catalogue import Entry, Wanted, list_models, look_at, read_settings, read_shape
from hpcfsl.describe.models_page import render
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.models import Model, Samples, models
from hpcfsl.models.operations import count_cuts, count_halves

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


@pytest.fixture(scope="module")
def everything() -> tuple[list[Entry], list[str]]:
    return list_models(Wanted())


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


@pytest.mark.parametrize("name", CASES)
def test_costs_are_those_of_the_models_that_are_split(name: str) -> None:
    case = CASES[name]
    costs = count_cuts(built(name), case.samples.shape, case.samples.vocabulary)
    assert costs
    for cost in {costs[0], costs[-1]}:
        model = case.split(cost.name, built(name))
        assert cost.operations == count_halves(model)
        assert cost.client_parameters == model.layout.client_size
        assert cost.server_parameters == model.layout.size - model.layout.client_size
        assert cost.smashed_shape == model.smashed_shape
        assert cost.smashed_numbers == prod(model.smashed_shape)


class Branches(nn.Module):
    """No chain: it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        return self.head(hidden + self.second(hidden).relu())


def test_costs_of_a_module_that_is_no_chain() -> None:
    first, *others = count_cuts(Branches(), (4,), 0)
    assert not others
    assert (first.name, first.client_parameters, first.server_parameters) == ("first", 25, 30 + 12)
    assert first.operations.client == 2 * 2 * 4 * 5
    assert first.operations.server == 3 * 2 * (5 * 5 + 5 * 2)


def test_the_page_is_what_the_models_say(
    everything: tuple[list[Entry], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpcfsl.describe.models_page.list_models", lambda wanted: everything)
    hint = "write it anew: its command is in the head of hpcfsl/describe/models_page.py"
    assert PAGE.read_text(encoding="utf-8") == render(), hint


def test_every_model_is_listed_with_all_its_cuts(
    everything: tuple[list[Entry], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert everything[1] == []
    monkeypatch.setattr("hpcfsl.describe.catalogue.list_models", lambda wanted: everything)
    result = call("--json")
    assert result.exit_code == 0
    found = {entry["name"]: entry for entry in json.loads(result.output)}
    assert set(found) == set(models.names())
    for entry in found.values():
        assert [cut["default"] for cut in entry["cuts"]].count(True) == 1
        assert all(cut["meaning"] for cut in entry["cuts"])
        for cut in entry["cuts"]:
            assert cut["client_parameters"] + cut["server_parameters"] == entry["parameters"]
    kinds = [entry["kind"] for entry in json.loads(result.output)]
    assert kinds == sorted(kinds, key=["image", "speech", "text", "forecast", "other"].index)


def test_models_that_cannot_take_the_samples_are_named() -> None:
    result = call("--shape", "1x8x8")
    assert result.exit_code == 0
    assert "digits-cnn │ conv1 " in result.output
    last = next(line for line in result.output.splitlines() if line.startswith("cannot take such samples: "))
    assert "lenet5" in last
    assert "digits-cnn" not in last


def test_one_model_is_explained() -> None:
    result = call("speech-cnn2d", "--shape", "1x16x24", "--outputs", "3", "--set", "model.dropout=0.5")
    assert result.exit_code == 0
    assert "samples of 1 x 16 x 24, 3 classes" in result.output
    assert "pool1 *" in result.output
    assert "  pool<k>: After max-pool k of 3" in result.output
    assert "  dropout = 0.5: Share of" in result.output
    assert "│ dropout " in result.output
    assert "│ dropout " not in call("speech-cnn2d").output


def test_samples_that_are_asked_for() -> None:
    entry = look_at(read_settings("gru-lm", ()), Wanted(shape=(9,), num_outputs=5, vocabulary=7))
    assert entry.samples == Samples(shape=(9,), num_outputs=5, vocabulary=7, target_shape=(9,))
    entry = look_at(read_settings("tcn", ("model.blocks=2",)), Wanted(num_outputs=3))
    assert entry.samples == Samples(shape=(48, 8), num_outputs=3, target_shape=(3,), predicts="numbers")
    assert [cut.name for cut in entry.cuts] == ["block1", "block2", "last"]
    # The number of symbols is nothing to a model of numbers.
    assert look_at(read_settings("mlp", ()), Wanted(vocabulary=9)).samples.vocabulary == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("resnet",), "model.name = 'resnet': unknown; did you mean 'resnet18'? choose one of"),
        (("lenet5", "--shape", "8"), "model.name = 'lenet5': needs images [channels, height, width]"),
        (("mlp", "--shape", "3x"), "--shape 3x: write sizes from 1 with an x between them, as in 3x32x32"),
        (("mlp", "--shape", "0"), "--shape 0: write sizes from 1"),
        (("mlp", "--set", "model.hiden=[3]"), "model.hiden = [3]: unknown; did you mean 'hidden'?"),
        (("--set", "model.hidden=[3]"), "--set model.hidden=[3]: goes with the NAME of a model"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], text: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("hpcfsl: ")
    assert text in result.stderr


def test_shapes_are_read() -> None:
    assert read_shape("3x32x32") == read_shape("3,32,32") == (3, 32, 32)
    assert read_shape("20") == (20,)
    for wrong in ("", "x", "-3", "3.5", "3xa"):
        with pytest.raises(UserError):
            read_shape(wrong)


class Outside(Model):
    """A model of another package, which says nothing of itself."""

    name: Literal["outside"] = "outside"
    cut: str = "first"

    def build(self, sample_shape: tuple[int, ...], num_outputs: int) -> nn.Module:
        return Branches()


class Point:
    def load(self) -> type[Model]:
        return Outside


def test_models_of_other_packages_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(**selection: Any) -> list[Point]:
        return [Point()] if selection["group"] == "hpcfsl.model" else []

    monkeypatch.setattr("hpcfsl.settings.entry_points", entry_points)
    monkeypatch.setattr(models, "_classes", dict(models._classes))
    monkeypatch.setattr(models, "_outside_loaded", False)
    with pytest.raises(ConfigError, match="does not say which samples it takes; give --shape and --outputs"):
        look_at(read_settings("outside", ()), Wanted())
    result = call("outside", "--shape", "4", "--outputs", "2")
    assert result.exit_code == 0
    assert "outside (other): A model of another package" in result.output
    assert "first *" in result.output
    entries, refused = list_models(Wanted(shape=(4,), num_outputs=2))
    assert entries[-1].name == "outside"
    assert "outside" not in refused
