from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.slurm_fakes import Fakes, make_fakes


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """Fake commands that come first on the PATH."""
    made = make_fakes(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.delenv(name, raising=False)  # jobs/test.sh sets them for ranks that tests start themselves
    return made


@pytest.fixture
def config(tmp_path: Path, tiny: Callable[..., dict[str, Any]]) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tiny(groups={"number": 4})), encoding="utf-8")
    return path
