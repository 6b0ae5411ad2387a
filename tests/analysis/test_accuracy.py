"""analysis/accuracy.py on two small real runs and bounds written by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hpcfsl

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("accuracy", Path(__file__).parents[2] / "analysis" / "accuracy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tiny: Callable[..., Any], tmp_path: Path) -> Path:
    """A sweep of which one seed in three is missing, and its bounds."""
    entries = []
    for seed in range(3):
        name = f"fedavg__seed={seed}"
        entries.append({"name": name, "case": "fedavg", "settings": {}, "seed": seed})
        if seed < 2:
            config = tiny(run={"seed": seed}, evaluation={"clients_every": 1})
            hpcfsl.run(config, out=tmp_path / "digits" / "runs" / name)
    (tmp_path / "digits" / "sweep.json").write_text(json.dumps(entries))
    bounds = {"naive": 0.125, "local-only": 0.5, "centralised": 0.75}
    rows = [
        {"seed": 0, "bound": bound, "population": "test", "metric": "accuracy", "value": value}
        for bound, value in bounds.items()
    ]
    rows.append({**rows[-1], "population": "clients", "value": 0.875})
    (tmp_path / "digits.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_the_table_and_the_figure(script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script.main([str(folder), "--figures", str(folder)])
    heading, _, line, *rest = capsys.readouterr().out.splitlines()
    assert heading.startswith("| Accuracy, % | naive | local-only | averaging | fedavg |")
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["digits by writer", "12.5", "50.0", "-"]
    assert cells[-1] == "75.0"
    run = hpcfsl.open(folder / "digits" / "runs" / "fedavg__seed=0")
    other = hpcfsl.open(folder / "digits" / "runs" / "fedavg__seed=1")
    mean = sum(100 * each.column("rounds", "test_accuracy")[-1] for each in (run, other)) / 2
    assert cells[4].startswith(f"{mean:.1f} ± ")
    assert cells[4].endswith("(2 of 3)")
    assert rest[-1] == "| digits by writer | accuracy | - | - | - | 87.5 |"
    assert (folder / "accuracy-image.png").read_bytes().startswith(PNG)


def test_the_table_goes_between_the_marks(script: ModuleType, folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    for _ in range(2):
        script.main([str(folder), "--into", str(page)])
        text = page.read_text()
        assert text.startswith(f"before\n{script.BEGIN}\n\n| Accuracy, %")
        assert text.endswith(f"\n{script.END}\nafter\n")
        assert "old" not in text
    page.write_text("no marks\n")
    with pytest.raises(SystemExit, match="no lines"):
        script.main([str(folder), "--into", str(page)])


def test_curves_are_averaged_as_far_as_all_go(script: ModuleType) -> None:
    assert script.mean_curve([([1, 3], [2.0, 4.0]), ([1, 3, 5], [4.0, 6.0, 8.0])]) == ([1, 3], [3.0, 5.0])
    assert script.mean_curve([]) == ([], [])


def test_small_numbers_and_large_ones(script: ModuleType) -> None:
    assert script.spread([0.5, 0.52], "accuracy") == "51.0 ± 1.4"
    assert script.spread([4.0, 4.5], "perplexity") == "4.25 ± 0.35"
    assert script.spread([44.04], "mae") == "44.0"
    assert script.spread([], "mae") == "-"
