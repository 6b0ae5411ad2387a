"""What tests with ranks share: which kinds of MPI there are here, and a run that one of its ranks can disturb."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from support.mpirun import OTHER_MPIS, environment, find_mpirun

import hpcfsl
from hpcfsl.config import load
from hpcfsl.threats import threats
from hpcfsl.trace.digest import digest

Maker = Callable[..., dict[str, dict[str, Any]]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/mpi/" in item.path.as_posix():
            item.add_marker(pytest.mark.mpi)
            if find_mpirun() is None:
                item.add_marker(pytest.mark.skip(reason="no mpirun here"))
            name = getattr(item, "callspec", None) and item.callspec.params.get("mpi", "own")  # type: ignore[attr-defined]
            if OTHER_MPIS.get(name or "own", "PATH") not in os.environ:
                item.add_marker(pytest.mark.skip(reason=f"no {name} MPI here: jobs/test.sh makes {OTHER_MPIS[name]}"))


@pytest.fixture
def config(tmp_path: Path, tiny: Maker) -> Path:
    """Return a configuration of six rounds whose clients are in the hands of the fault plug-in."""
    tree = tiny(run={"rounds": 6, "checkpoint_rounds": 2}, threat={"attack": "fault", "clients": 12})
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tree))
    return path


@pytest.fixture
def undisturbed(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the digest of the run that nothing happens to, on one rank, in this process."""
    monkeypatch.syspath_prepend(environment()["PYTHONPATH"].split(os.pathsep)[0])
    monkeypatch.setattr(threats, "_classes", dict(threats._classes))
    monkeypatch.setattr(threats, "_outside_loaded", False)
    return digest(hpcfsl.run(load(config), out=tmp_path / "undisturbed"))
