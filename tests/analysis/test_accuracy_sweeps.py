"""The sweeps of jobs/accuracy: every file can be read, every line of the table has one, and every case is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcfsl.cluster.sweep import read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "jobs" / "accuracy").glob("*.sweep.toml"))

PROTOCOLS = ("fedavg", "splitfed-v1", "splitfed-v2", "splitfed-v3", "parallel", "u-shaped")


def name_of(path: Path) -> str:
    return path.name.partition(".")[0]


@pytest.mark.parametrize("path", SWEEPS, ids=name_of)
def test_a_sweep_says_what_its_name_says(path: Path) -> None:
    script = (ROOT / "analysis" / "accuracy.py").read_text(encoding="utf-8")
    assert f'name="{name_of(path)}"' in script
    for member in read_sweep(path):
        if member.case == "averaging":
            assert member.config.run.preset == "averaging"
        else:
            assert member.case in PROTOCOLS
            assert (member.config.protocol.name, member.config.run.preset) == (member.case, "hardened")
        assert member.config.trace.updates == "none"


@pytest.mark.parametrize(
    "data", ["fashion-iid", "fashion-dirichlet", "digits", "vowels-new", "docstrings", "vader-documents", "diabetes"]
)
def test_every_protocol_is_run(data: str) -> None:
    (path,) = [path for path in SWEEPS if name_of(path) == data]
    members = [(member.case, member.seed) for member in read_sweep(path)]
    assert sorted(members) == sorted((case, seed) for case in ("averaging", *PROTOCOLS) for seed in range(3))


def test_the_script_runs_all_of_them() -> None:
    text = (ROOT / "jobs" / "accuracy.sh").read_text(encoding="utf-8")
    named = text.partition("names=(")[2].partition(")")[0].split()
    assert sorted(named) == sorted(map(name_of, SWEEPS))
