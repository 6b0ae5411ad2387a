"""The sweeps of jobs/robustness_kinds and the tables that are made of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hpcfsl
from hpcfsl.cluster.sweep import read_sweep

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "jobs" / "robustness_kinds"
SWEEPS = sorted(path for path in FOLDER.glob("*.sweep.toml") if not path.name.startswith("image-undo"))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "analysis_robustness_kinds", ROOT / "analysis" / "robustness_kinds.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name.partition(".")[0])
def test_a_sweep_has_every_attack_protocol_and_preset_of_the_tables(path: Path) -> None:
    script, members = load(), read_sweep(path)
    found = {(each.case, each.config.protocol.name, each.config.run.preset) for each in members}
    assert found == {(a, p, r) for a in script.ATTACKS for p in script.PROTOCOLS for r in script.PRESETS}
    for member in members:
        assert member.config.threat.attack == member.case
        assert (member.config.threat.clients > 0) == (member.case != "none")
        last = member.config.run.rounds
        assert last % member.config.evaluation.every == 0, "the last round must be tested"


def test_the_tables_have_all_kinds() -> None:
    assert {kind for kind, *_ in load().KINDS} == {path.name.partition(".")[0] for path in SWEEPS}


def test_a_run_is_read_and_stands_in_its_cell(tiny: Callable[..., Any], tmp_path: Path) -> None:
    script = load()
    config = tiny(threat={"attack": "sign-flip", "clients": 3, "scale": 5.0})
    found = script.measure(hpcfsl.run(config, out=tmp_path / "run"), "accuracy")
    assert 0 <= found.metric <= 1
    assert 0 <= found.auc <= 1
    key = ("image", "sign-flip", "parallel", "hardened")
    lines = script.metrics_table({key: [found, found]}).splitlines()
    row = next(line for line in lines if line.startswith("| digits, accuracy in % | sign flip, 5 times |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == ["-", "-", "-", f"{100 * found.metric:.1f} ± 0.0", "-", "-"]
    row = next(line for line in script.detection_table({key: [found]}).splitlines() if "digits | sign" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")][3] == (
        f"{found.auc:.2f}; {found.caught:.2f}; {found.wrong:.2f}"
    )


def test_the_two_ways_of_undoing_differ_in_nothing_else() -> None:
    script = load()
    members = read_sweep(FOLDER / f"{script.UNDOING}.sweep.toml")
    found = {(each.case, each.config.protocol.name, each.config.protocol.undoes): each.config for each in members}
    assert set(found) == {(a, p, u) for a in script.ATTACKS for p in script.PROTOCOLS[1:] for u in script.UNDO}
    others = {
        (each.case, each.config.protocol.name, each.config.protocol.undoes): each.config
        for each in read_sweep(FOLDER / "image.sweep.toml")
        if each.config.run.preset == "hardened"
    }
    for (attack, protocol, undo), config in found.items():
        assert config.screening.rule == ("distance" if undo == "screen" else "none")
        other = found[attack, protocol, script.UNDO[1 - script.UNDO.index(undo)]]
        trees = [config.tree(), other.tree()]
        for tree in trees:
            del tree["protocol"]["undo"], tree["screening"]
        assert trees[0] == trees[1]
        default = undo == ("screen" if protocol == "u-shaped" else "replay")
        assert ((attack, protocol, undo) in others) == default
        assert not default or others[attack, protocol, undo] == config


def test_a_way_of_undoing_stands_in_its_cell() -> None:
    script = load()
    found = script.Found(metric=0.5, caught=0.25, wrong=0.125, auc=1.0)
    lines = script.undoing_table({(script.UNDOING, "none", "u-shaped", "replay"): [found]}).splitlines()
    row = next(line for line in lines if line.startswith("| digits, accuracy in % | no attack |"))
    assert [cell.strip() for cell in row.strip("|").split("|")][2:] == ["-", "-", "50.0; 0.12", "-"]


def test_a_run_that_diverged_is_no_number() -> None:
    script = load()
    assert script.spread([1.0, float("inf")], 1.0, 1) == "diverged"
    assert script.spread([], 1.0, 1) == "-"


def test_the_page_has_the_marks() -> None:
    script = load()
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    changed = script.put_between(page, "table")
    assert f"{script.BEGIN}\n\ntable\n{script.END}" in changed
    with pytest.raises(SystemExit, match="no lines"):
        script.put_between("nothing", "table")
