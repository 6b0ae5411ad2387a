"""What the documentation shows is run: Python blocks, a package out of the tree, configurations, command lines, links.

Blocks marked `python run` are executed, those of one page one after another. Blocks with a `title` are files.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import click
import pytest

from hpcfsl.cli import main
from hpcfsl.config import load_text

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {path.stem: path for path in (*sorted(DOCS.glob("*.md")), DOCS.parent / "README.md")}
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, mark: str) -> list[str]:
    return [text for info, text in BLOCK.findall(read(page)) if info == mark]


def files(page: str) -> dict[str, str]:
    found = {re.search(r'title="([^"]+)"', info): text for info, text in BLOCK.findall(read(page))}
    return {match[1]: text for match, text in found.items() if match}


def execute(command: list[str], folder: Path) -> str:
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PMI_", "PALS_"))}
    environment = {**alone, "PYTHONPATH": str(folder), "HPCFSL_PROGRESS": "0"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["running", "extending"])
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    for package in ("pandas", "xarray", "h5netcdf"):
        pytest.importorskip(package)
    shown = blocks(page, "python run")
    assert shown
    (tmp_path / "page.py").write_text("\n".join(shown), encoding="utf-8")
    execute([sys.executable, "-W", "error", "page.py"], tmp_path)


def test_the_package_out_of_the_tree_is_found_and_used(tmp_path: Path) -> None:
    for name, text in files("extending").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # What an installer leaves behind; nothing is built or fetched here.
    installed = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (installed / "METADATA").write_text(metadata, encoding="utf-8")
    points = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for group, p in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("".join(points), encoding="utf-8")

    (command,) = [text for info, text in BLOCK.findall(read("extending")) if text.startswith("hpcfsl run")]
    execute([sys.executable, "-m", *shlex.split(command)], tmp_path)
    told = execute([sys.executable, "-m", "hpcfsl", "inspect", "--json", "runs/krum"], tmp_path)
    assert '"rule": "krum"' in told
    header = execute([sys.executable, "-m", "hpcfsl", "table", "runs/krum"], tmp_path).splitlines()[0]
    assert "component_krum" in header.split(",")


def test_configurations_load() -> None:
    shown = {**files("configuration"), **files("faults"), **files("protocols")}
    assert shown
    for text in shown.values():
        load_text(text)


def show(pattern: str, text: Callable[[str], str] = read) -> list[tuple[str, str]]:
    """Return (page, what) of all that the pages show of a kind."""
    return [(page, what) for page in PAGES for what in re.findall(pattern, text(page), re.MULTILINE)]


def command_blocks(page: str) -> str:
    return "\n".join(text for mark in ("sh", "") for text in blocks(page, mark))


@pytest.mark.parametrize(("page", "line"), show(r"^(?:mpirun -n \w+ )?hpcfsl [a-z].*$", command_blocks))
def test_command_lines_are_understood(page: str, line: str) -> None:
    for one in line.partition("#")[0].split(";"):
        words = shlex.split(one)
        command, arguments = main, words[words.index("hpcfsl") + 1 :]
        while isinstance(command, click.Group):
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, arguments)


@pytest.mark.parametrize(("page", "override"), show(r"--set ((?!section\.|model\.)\w+\.\w+=[\w.\"-]+)"))
def test_overrides_that_are_shown_can_be_used(page: str, override: str) -> None:
    key, _, value = override.partition("=")
    section, _, name = key.partition(".")
    assert str(load_text("", (override,)).tree()[section][name]).lower() == value.strip('"')


@pytest.mark.parametrize(
    ("page", "name"), show(r"`((?:run|groups|bounds|threshold|trace|training|evaluation)\.(?!py`)[a-z_]+)`")
)
def test_settings_that_are_named_exist(page: str, name: str) -> None:
    section, key = name.split(".")
    assert key in load_text("").tree()[section]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_files_that_are_named_exist(page: str) -> None:
    text = read(page)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = re.findall(r"`((?:hpcfsl|tests|jobs|docs|analysis)/[\w./-]*)`", text)
    missing = [link for link in links if not (PAGES[page].parent / link).exists()]
    missing += [name for name in named if "NAME" not in name and not (DOCS.parent / name).exists()]
    assert links or named
    assert missing == []


@pytest.mark.parametrize(("page", "place"), show(r"`(hpcfsl(?:\.[a-z_]+)+\.[A-Z]\w+)`"))
def test_classes_that_are_named_can_be_imported(page: str, place: str) -> None:
    module, _, name = place.rpartition(".")
    assert hasattr(import_module(module), name)
