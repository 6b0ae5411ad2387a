"""The scripts of analysis/ and the cells of its notebook, on small real runs."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hpcfsl
from hpcfsl.native.columns import available

ANALYSIS = Path(__file__).parents[2] / "analysis"
NOTEBOOK = json.loads((ANALYSIS / "traces.ipynb").read_text("utf-8"))
_MADE: list[Path] = []


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"analysis_{name}", ANALYSIS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runs(tiny: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two runs of one case that differ in the seed and one without attackers; made once, no test changes them."""
    if not _MADE:
        folder = tmp_path_factory.mktemp("runs")
        attack = {"attack": "sign-flip", "clients": 3, "scale": 5.0}
        for name, seed, threat in (("flip-0", 0, attack), ("flip-1", 1, attack), ("calm-0", 0, {"attack": "none"})):
            config = tiny(run={"seed": seed}, threat=threat)
            _MADE.append(hpcfsl.run(config, out=folder / name).path)
    return [str(path) for path in _MADE]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_convergence(runs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = load("convergence")
    script.main([*runs, "--target", "0"])
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("flip-0: best ")
    assert lines[0].endswith("reached 0 in round 0")
    script.main([*runs, "--csv", str(tmp_path / "a.csv"), "--png", str(tmp_path / "a.png"), "--metric", "train_loss"])
    assert capfd.readouterr().out == ""
    rows = read_csv(tmp_path / "a.csv")
    assert [row["run"] for row in rows] == ["flip-0"] * 3 + ["flip-1"] * 3 + ["calm-0"] * 3
    assert [float(row["train_loss"]) for row in rows[:3]] == hpcfsl.open(runs[0]).column(
        "rounds", "train_loss"
    ).tolist()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_convergence_without_evaluation(
    tiny: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hpcfsl.run(tiny(run={"rounds": 1}, evaluation={"every": 5}), out=tmp_path / "run")
    load("convergence").main([str(tmp_path / "run")])
    assert capfd.readouterr().out == "run: not evaluated\n"


def test_detection(runs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load("detection").main([*runs, "--csv", str(tmp_path / "a.csv")])
    printed = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert printed[0][0] == "run"
    assert printed[1][:4] == ["flip-0", "all", "9", "27"]
    assert printed[3][:5] == ["calm-0", "all", "0", "36", "-"]
    rows = read_csv(tmp_path / "a.csv")
    assert [row["round"] for row in rows[:4]] == ["0", "1", "2", "all"]
    caught = hpcfsl.open(runs[0]).column("rounds", "num_attackers_excluded")
    assert [float(row["true_positive_rate"]) for row in rows[:3]] == pytest.approx((caught / 3).tolist())
    assert float(rows[3]["true_positive_rate"]) == pytest.approx(caught.sum() / 9)


def test_robustness(runs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = load("robustness")
    script.main(runs)
    lines = capfd.readouterr().out.splitlines()
    assert lines[2].startswith("| flip | 2 | ")
    assert lines[2].count("±") == 4
    assert lines[3].startswith("| calm | 1 | ")
    assert "| - |" in lines[3]
    nameless = shutil.copytree(runs[0], tmp_path / "run")
    with pytest.raises(SystemExit, match="CASE-SEED"):
        script.main([str(nameless)])


def test_robustness_compares_only_equal_lengths(
    runs: list[str], tiny: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hpcfsl.run(tiny(run={"rounds": 1}), out=tmp_path / "short-0")
    with pytest.raises(SystemExit, match="2"):
        load("robustness").main([*runs, str(tmp_path / "short-0")])
    assert "short-0: 1 rounds" in capfd.readouterr().err


@pytest.mark.skipif(not available(), reason="the kernels were not built")
def test_shared_halves(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    script = load("shared_halves")
    monkeypatch.setattr(script, "SHAPES", {name: script.SHAPES[name] for name in ("mlp", "gru-lm")})
    script.main(["--clients", "2", "--samples", "3", "--batch", "2"])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split("|")[1:3] for line in lines[2:]] == [
        [f" {name} ", f" {order} "] for name in ("mlp", "gru-lm") for order in ("together", "in turn")
    ]


def test_median(capfd: pytest.CaptureFixture[str]) -> None:
    load("median").main(["--params", "100", "--clients", "3", "4"])
    lines = capfd.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["clients", "---", "3", "4"]


def test_method_cost(capfd: pytest.CaptureFixture[str]) -> None:
    load("method_cost").main(["--model", "mlp", "--clients", "6", "--groups", "2"])
    lines = [line.strip("|").split("|") for line in capfd.readouterr().out.splitlines()]
    assert [line[0].strip() for line in lines] == ["preset", "---", "averaging", "hardened"]
    for line in lines[2:]:
        *phases, total = map(float, line[1:])
        assert total == pytest.approx(sum(phases), abs=1e-3)


def test_the_notebook_is_stored_clean() -> None:
    assert NOTEBOOK["nbformat"] == 4
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    for cell in NOTEBOOK["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_the_cells_of_the_notebook_run(runs: list[str]) -> None:
    cells = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    environment = {**os.environ, "HPCFSL_RUN": runs[0], "MPLBACKEND": "agg"}
    subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(cells)],
        check=True,
        env=environment,
        timeout=120,
    )


# What makes the tables and figures of a page of the documentation is a program; the others are to be read and changed.
PROGRAMS = {"accuracy", "robustness_kinds", "shared_halves"}


@pytest.mark.parametrize("path", sorted(ANALYSIS.glob("*.py")), ids=lambda path: path.stem)
def test_scripts_are_short_and_say_how_to_call_them(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < (300 if path.stem in PROGRAMS else 80)
    assert f"analysis/{path.name}" in text.split('"""')[1]
