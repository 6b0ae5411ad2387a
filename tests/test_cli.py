from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner, Result

import hpcfsl
from hpcfsl.cli import main

Maker = Callable[..., dict[str, dict[str, Any]]]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    data = {"source": "synthetic", "shape": [4], "classes": 3, "samples": 120, "noise": 0.3}
    tree: dict[str, Any] = {
        "run": {"rounds": 2, "device": "cpu"},
        "data": data,
        "partition": {"rule": "iid", "clients": 6},
        "model": {"name": "mlp", "hidden": [5]},
        "groups": {"number": 2},
        "threat": {"attack": "sign-flip", "clients": 1, "scale": 50.0},
        "evaluation": {"clients_every": 1},
    }
    (folder / "config.toml").write_text(tomli_w.dumps(tree))
    hpcfsl.run(tree, out=folder / "run")
    return folder


@pytest.fixture
def config(tmp_path: Path, tiny: Maker) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tiny()))
    return path


class TestRun:
    def test_trains_and_prints_the_result(self, config: Path, tmp_path: Path) -> None:
        result = call("run", config, "--out", tmp_path / "run", "--set", "run.rounds=2")
        assert result.exit_code == 0, result.output
        assert "finished, 2 rounds" in result.stdout
        assert "test accuracy" in result.stdout
        assert hpcfsl.open(tmp_path / "run").config["run"]["rounds"] == 2

    def test_again_does_nothing_and_says_the_same(self, config: Path, tmp_path: Path) -> None:
        first = call("run", config, "--out", tmp_path / "run")
        again = call("run", config, "--out", tmp_path / "run")
        assert (again.exit_code, again.stdout) == (0, first.stdout)

    def test_another_configuration_for_the_same_folder(self, config: Path, tmp_path: Path) -> None:
        call("run", config, "--out", tmp_path / "run")
        result = call("run", config, "--out", tmp_path / "run", "--set", "run.seed=1")
        assert result.exit_code == 2
        assert result.stderr.startswith("hpcfsl: ")
        assert "was started with other values of run.seed (" in result.stderr

    def test_what_click_refuses_exits_with_2_as_well(self, config: Path) -> None:
        assert call("run", config).exit_code == 2
        assert call("rnu").exit_code == 2
        assert call("run", config, "--out", config).exit_code == 2


class TestReading:
    def test_inspect(self, finished: Path) -> None:
        text = call("inspect", finished / "run").stdout
        for words in ("finished, 2 rounds", "client accuracy", "attackers excluded", "honest excluded", "bytes"):
            assert words in text
        tree = json.loads(call("inspect", finished / "run", "--json").stdout)
        assert (tree["status"], tree["rounds_done"], tree["ranks"]["count"]) == ("finished", 2, 1)

    def test_digest_and_compare(self, finished: Path, tmp_path: Path) -> None:
        folder = finished / "run"
        digest = call("digest", folder).stdout
        assert len(digest.strip()) == 64
        assert call("compare", folder, folder).stdout == "equal\n"
        other = call("run", finished / "config.toml", "--out", tmp_path / "run", "--set", "run.seed=1")
        assert other.exit_code == 0
        result = call("compare", folder, tmp_path / "run", "--rtol", "1e-9")
        assert result.exit_code == 1
        assert result.stdout.strip() != "equal"

    def test_table(self, finished: Path, tmp_path: Path) -> None:
        result = call("table", finished / "run")
        assert len(result.stdout.splitlines()) == 1 + 2 * 6
        path = tmp_path / "rounds.csv"
        assert call("table", finished / "run", "--what", "rounds", "--csv", path).stdout == ""
        assert path.read_text().startswith("round,")
        result = call("table", finished / "run", "--what", "round")
        assert (result.exit_code, result.stderr.split(";")[0]) == (2, "hpcfsl: --what round: unknown")
        assert call("table", finished / "run", "--csv", tmp_path / "none" / "x.csv").exit_code == 2

    def test_a_reader_that_leaves_early(self, finished: Path) -> None:
        command = f"{sys.executable} -m hpcfsl table {finished / 'run'} --what timings"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("command", ["inspect", "digest", "table"])
    def test_what_is_no_run_folder(self, tmp_path: Path, command: str) -> None:
        for folder in (tmp_path, tmp_path / "none"):
            result = call(command, folder)
            assert result.exit_code == 2
            (line,) = result.stderr.splitlines()
            assert "not a run folder" in line

    def test_a_damaged_file_is_named(self, config: Path, tmp_path: Path) -> None:
        call("run", config, "--out", tmp_path / "run")
        (segment,) = (tmp_path / "run" / "trace").glob("*.h5")
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        result = call("digest", tmp_path / "run")
        assert result.exit_code == 2
        assert segment.name in result.stderr


class TestOthers:
    def test_schema(self, tmp_path: Path) -> None:
        printed = call("schema").stdout
        assert json.loads(printed)["title"] == "hpcfsl configuration"
        assert call("schema", "--out", tmp_path / "schema.json").stdout == ""
        assert (tmp_path / "schema.json").read_text() == printed

    def test_report(self, finished: Path, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        pytest.importorskip("jinja2")
        result = call("report", finished / "run", "--out", tmp_path / "report.html")
        assert result.exit_code == 0, result.output
        assert (tmp_path / "report.html").read_text().lstrip().lower().startswith("<!doctype html")

    def test_help_and_version(self) -> None:
        assert "Commands:" in call("-h").stdout
        assert hpcfsl.__version__ in call("--version").stdout
