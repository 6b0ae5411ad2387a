from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner

import hpcfsl
from hpcfsl.cli import main
from hpcfsl.training.table import read_table

Maker = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def config(tmp_path: Path, tiny: Maker) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(tiny()))
    return path


def test_a_run_takes_what_was_calibrated(config: Path, tmp_path: Path, tiny: Maker) -> None:
    out = tmp_path / "table.toml"
    for _ in range(2):  # the second time takes the place of the first
        done = CliRunner().invoke(main, ["calibrate", str(config), "--out", str(out), "--turns", "1"])
        assert done.exit_code == 0, done.output
    (entry,) = read_table(out)
    assert {"stacked", "one-by-one"} <= {candidate.executor for candidate in entry.ranking}
    speeds = [candidate.clients_per_second for candidate in entry.ranking]
    assert speeds == sorted(speeds, reverse=True)
    assert "clients/s" in done.stdout
    run = hpcfsl.run(tiny(training={"batch_size": 8, "table": str(out)}), out=tmp_path / "run")
    assert run.provenance["executor"].startswith(entry.ranking[0].executor)


def test_a_broken_table_is_not_written_over(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.toml"
    out.write_text("not a table")
    done = CliRunner().invoke(main, ["calibrate", str(config), "--out", str(out)])
    assert done.exit_code == 2
    assert "is no table of executors" in done.stderr
    assert out.read_text() == "not a table"
