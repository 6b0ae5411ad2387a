"""The architecture holds: imports point down, and what reads traces needs neither torch nor MPI."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpcfsl

ROOT = Path(__file__).parent.parent
# A finder that refuses torch and MPI, as on a machine that has the base install alone.
BLOCKED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "mpi4py"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Refuse())
"""


def python(code: str, *arguments: str | Path) -> str:
    """Return what a fresh Python prints; fail with its errors."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def finished(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    return hpcfsl.run(tiny(run={"rounds": 1}), out=tmp_path / "run").path


def test_import_contracts() -> None:
    pytest.importorskip("importlinter")
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_page_on_the_architecture_names_what_there_is() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:hpcfsl/)?([a-z_/]+(?:/|\.py))`", page))
    entries = [path for path in (ROOT / "hpcfsl").iterdir() if not path.name.startswith("_")]
    modules = {path.name for path in entries if path.suffix == ".py"}
    rooms = {f"{path.name}/" for path in entries if (path / "__init__.py").exists()}
    assert modules | rooms <= named
    assert [name for name in named if not (ROOT / "hpcfsl" / name).exists()] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "torch mpi4py numpy h5py pydantic matplotlib sklearn pandas rich click"
    assert python(f"import sys, hpcfsl; print(*(m for m in {heavy.split()!r} if m in sys.modules))") == "\n"


def test_traces_are_read_without_torch_and_mpi(finished: Path) -> None:
    code = BLOCKED + "import hpcfsl; run = hpcfsl.open(sys.argv[1]); print(run.status, run.rounds_done)"
    assert python(code, finished) == "finished 1\n"


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["inspect"], ["digest"], ["table"]])
def test_commands_that_train_nothing_load_no_torch_and_no_mpi(finished: Path, command: list[str]) -> None:
    folder = [str(finished)] if command[0] in ("inspect", "digest", "table") else []
    code = BLOCKED + (
        "from hpcfsl.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'mpi4py'} & set(sys.modules)"
    )
    assert python(code, *command, *folder)


def test_only_mpirun_makes_a_run_load_mpi(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    code = (
        "import json, sys, hpcfsl; hpcfsl.run(json.loads(sys.argv[1]), out=sys.argv[2]); print('mpi4py' in sys.modules)"
    )

    assert python(code, json.dumps(tiny(run={"rounds": 1})), tmp_path / "run") == "False\n"
