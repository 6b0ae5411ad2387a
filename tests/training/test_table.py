from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.zoo import zoo_model

from hpcfsl.errors import ConfigError
from hpcfsl.models.digits_cnn import DigitsCnn
from hpcfsl.models.split import split
from hpcfsl.training import executors
from hpcfsl.training.executors import choose, make_executor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.table import (
    SHIPPED,
    Candidate,
    Entry,
    Key,
    describe_model,
    key_of,
    merge_entries,
    read_table,
    write_table,
)

CPU = torch.device("cpu")


def candidates(*names: str) -> tuple[Candidate, ...]:
    return tuple(Candidate(executor=name, chunk_clients=7, clients_per_second=1.5) for name in names)


def table(folder: Path, settings: TrainingSettings, *names: str) -> TrainingSettings:
    """Return settings that name a table in which the model "mlp" has this ranking."""
    entry = Entry(key=key_of(zoo_model("mlp"), settings, CPU), ranking=candidates(*names))
    path = folder / "table.toml"
    path.write_text(write_table([entry]))
    return settings.replace(table=str(path))


def test_a_model_is_described_by_its_layers_and_not_by_its_cut() -> None:
    module = DigitsCnn().build((1, 8, 8), 10)
    texts = {describe_model(split(module, cut, (1, 8, 8))) for cut in ("none", "relu1", "pool")}
    assert texts == {"Conv2d(16x1x3x3) ReLU Conv2d(32x16x3x3) ReLU MaxPool2d Flatten Linear(64x512) ReLU Linear(10x64)"}


def test_new_entries_take_the_place_of_old_ones() -> None:
    keys = [Key(device="cpu", model=model, batch_size=4, precision="float32") for model in ("a", "b")]
    first, second = (Entry(key=key, ranking=candidates("native")) for key in keys)
    new = Entry(key=keys[0], ranking=candidates("one-by-one"))
    assert merge_entries([first, second], [new]) == (new, second)


def test_a_table_comes_back(tmp_path: Path) -> None:
    entries = (Entry(key=Key(device="cpu", model="x", batch_size=4, precision="bf16"), ranking=candidates("stacked")),)
    (tmp_path / "table.toml").write_text(write_table(entries))
    assert read_table(tmp_path / "table.toml") == entries


def test_the_shipped_table_can_be_read() -> None:
    entries = read_table(SHIPPED)
    assert entries
    assert all(entry.ranking for entry in entries)


def test_auto_takes_the_fastest_of_the_table(tmp_path: Path) -> None:
    settings = table(tmp_path, TrainingSettings(), "one-by-one", "native")
    made = make_executor(zoo_model("mlp"), settings, CPU)
    assert (made.name, made.chunk_clients) == ("one-by-one", 7)


def test_auto_passes_over_what_it_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = table(tmp_path, TrainingSettings(), "native", "stacked")
    monkeypatch.setattr(executors, "why_not", lambda model: "there are no kernels")
    assert choose(zoo_model("mlp"), settings, CPU) == candidates("stacked")[0]
    only = table(tmp_path, TrainingSettings(), "native")
    assert choose(zoo_model("mlp"), only, CPU).executor == "stacked"  # by the rule for models that no table knows


def test_another_model_batch_or_precision_is_not_in_the_table(tmp_path: Path) -> None:
    settings = table(tmp_path, TrainingSettings(), "one-by-one")
    default = TrainingSettings().chunk_clients
    assert choose(zoo_model("digits-cnn"), settings, CPU).executor == "native"
    assert choose(zoo_model("mlp"), settings.replace(batch_size=3), CPU).chunk_clients == default
    assert choose(zoo_model("mlp"), settings.replace(precision="bf16"), CPU).executor == "stacked"


def test_a_named_executor_goes_before_the_table(tmp_path: Path) -> None:
    settings = table(tmp_path, TrainingSettings(), "one-by-one").replace(executor="stacked", chunk_clients=3)
    assert choose(zoo_model("mlp"), settings, CPU) == Candidate(executor="stacked", chunk_clients=3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("= 3", "is no table of executors"),
        ("entry = 3", "is no table of executors"),
        ("[[entry]]\nmodel = 3", "is no table of executors"),
        (
            write_table([Entry(key=Key(device="", model="", batch_size=1, precision=""), ranking=candidates("fast"))]),
            "fast",
        ),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "table.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=rf"training.table = '{path}': .*{problem}.*hpcfsl calibrate"):
        choose(zoo_model("mlp"), TrainingSettings(table=str(path)), CPU)
