"""docs/clusters.md says what is there: every setting of a site file, and examples that can be read."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from hpcfsl.cluster.site import Container, Site
from hpcfsl.cluster.sweep import read_sweep
from hpcfsl.settings import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
TOML = re.findall(r"^```toml([^\n]*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def row(name: str, field: FieldInfo) -> str:
    if field.is_required():
        default = "must be given"
    else:
        default = "none" if field.default is None else f"`{json.dumps(field.default)}`"
    return f"| `{name}` | {default} | {' '.join((field.description or '').split())} |"


@pytest.mark.parametrize("table", [Site, Container])
def test_every_setting_is_in_its_table(table: type[Site] | type[Container]) -> None:
    rows = "\n".join(row(name, field) for name, field in table.model_fields.items())
    assert rows in PAGE, f"the table in docs/clusters.md should be\n{rows}"


def test_the_site_files_shown_can_be_read() -> None:
    shown = [tomllib.loads(text) for title, text in TOML if not title]
    assert len(shown) == 2
    assert [parse(Site, tree, "site").launcher for tree in shown] == ["mpirun", "mpirun"]


def test_the_sweep_shown_is_as_many_runs_as_it_says(tmp_path: Path) -> None:
    ((title, text),) = [(title, text) for title, text in TOML if title]
    assert "sweep.toml" in title
    (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
    (tmp_path / "robustness.toml").write_bytes((ROOT / "jobs" / "robustness.toml").read_bytes())
    assert len(read_sweep(tmp_path / "sweep.toml")) == 24
    assert "2 x 4 x 3 = 24 runs" in PAGE
