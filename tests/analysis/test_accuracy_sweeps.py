"""The sweeps of jobs/accuracy: every file can be read, every line of the table has one, and every case is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcfsl.cluster.sweep import read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "jobs" / "accuracy").glob("*.sweep.toml"))

SEPARATE, SHARED = ("fedavg", "splitfed-v1", "splitfed-v3"), ("splitfed-v2", "parallel", "u-shaped")


def partner(path: Path) -> Path:
    """Return the sweep that has the other protocols of the same data."""
    name = path.name.partition(".")[0]
    other = name.removesuffix("-shared") if name.endswith("-shared") else f"{name}-shared"
    return path.with_name(f"{other}.sweep.toml")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name.partition(".")[0])
def test_a_sweep_has_every_case(path: Path) -> None:
    name, members = path.name.partition(".")[0], read_sweep(path)
    script = (ROOT / "analysis" / "accuracy.py").read_text(encoding="utf-8")
    cases = list(dict.fromkeys(member.case for member in members))
    if partner(path).exists():
        cases += dict.fromkeys(member.case for member in read_sweep(partner(path)))
    assert sorted(cases) == sorted(["averaging", *SEPARATE, *SHARED])
    assert f'name="{name.removesuffix("-shared")}"' in script
    for member in members:
        if member.case == "averaging":
            assert member.config.run.preset == "averaging"
        else:
            assert (member.config.protocol.name, member.config.run.preset) == (member.case, "hardened")
        assert member.config.trace.updates == "none"


def test_the_script_runs_all_of_them() -> None:
    text = (ROOT / "jobs" / "accuracy.sh").read_text(encoding="utf-8")
    named = text.partition("names=(")[2].partition(")")[0].split()
    assert sorted(named) == [path.name.partition(".")[0] for path in SWEEPS]
