"""What the data page and jobs/data show: every configuration is understood, and those that need no download load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from hpcfsl.cli import main
from hpcfsl.config import load, load_text
from hpcfsl.data.sources import sources

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/data.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```toml[^\n]*\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
READY = sorted((ROOT / "jobs/data").glob("*.toml"))
NO_DOWNLOAD = ("digits", "series", "diabetes")


@pytest.mark.parametrize("text", SHOWN)
def test_configurations_of_the_page_are_understood(text: str) -> None:
    load_text(text)


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_configurations_are_understood_and_say_what_they_need(path: Path) -> None:
    config = load(path, ())
    first = path.read_text(encoding="utf-8").partition("\n\n")[0]
    assert first.startswith("# ")
    tree = config.data.model_dump()
    fetched = str(tree.get("file", "")).removeprefix("data/").removesuffix(".npz")
    assert f"hpcfsl data fetch {fetched}" in first if fetched else "data fetch" not in first


@pytest.mark.parametrize("name", NO_DOWNLOAD)
def test_ready_configurations_load(name: str) -> None:
    result = CliRunner().invoke(main, ["data", "describe", str(ROOT / f"jobs/data/{name}.toml"), "--clients", "0"])
    assert (result.exit_code, result.output.startswith("data set")) == (0, True)


def test_the_series_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    assert {name for name, _ in files} == {"homes.csv", "homes.toml"}
    for name, text in files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["data", "describe", "homes.toml"])
    assert "homes.csv: 2 samples of 2 x 2 (float32), a number to predict" in result.output


def test_the_page_names_every_source() -> None:
    assert [name for name in sources.names() if f"`{name}`" not in PAGE] == []
