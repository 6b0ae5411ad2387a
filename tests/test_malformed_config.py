"""Whatever stands in a configuration file: it works, or one line says what is wrong with which setting."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.choices import Tree

from hpcfsl.cli import main
from hpcfsl.config import SECTIONS, Config, load, resolve
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.settings import Registry
from hpcfsl.world import build_world

Maker = Callable[..., Tree]

# What a person, an editor or a script may put where a value belongs.
WRONG_VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**32, 2**63 - 1, 2**63, -(2**70), 10**4000, 0.0, -1.0, 1e-300, 1e300, -0.0, 0.999999]),
    st.sampled_from([math.nan, math.inf, -math.inf, True, False, "", "none", "all", "\x00", "é" * 200, "a\tb c"]),
    st.text(max_size=5),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.lists(st.integers(-1, 70000) | st.text(max_size=3) | st.floats(), max_size=3),
    st.dictionaries(st.text(min_size=1, max_size=3), st.integers(), max_size=2),
    st.just([[[[1]]]]),
)
# Changes that pass one section's own check; what is wrong with them, if anything, shows against others or the data.
MEANINGS: list[Tree] = [
    {"groups": {"number": 2}},
    {"groups": {"number": 13}},
    {"groups": {"rule": "fixed", "number": 12}},
    {"groups": {"rule": "stratified", "number": 1_000_000}},
    {"groups": {"min_survivors": 100}},
    {"model": {"cut": "relu7"}},
    {"model": {"cut": "none"}},
    {"model": {"cut": "linear2"}},
    {"model": {"hidden": []}},
    {"model": {"hidden": [65536] * 64}},
    {"model": {"hidden": [], "cut": "none"}},
    {"model": {"name": "lenet5"}},
    {"training": {"batch_size": 20}},
    {"training": {"batch_size": 21}},
    {"training": {"batch_size": 1_000_000}},
    {"threat": {"attack": "label-flip", "clients": 12}},
    {"threat": {"attack": "sign-flip", "clients": 13}},
    {"threat": {"attack": "none", "clients": 1}},
    {"bounds": {"lower": 9.0}},
    {"bounds": {"upper": 0.0}},
    {"bounds": {"sum_over": "all"}},
    {"partition": {"test_fraction": 0.99}},
    {"partition": {"test_fraction": 1.0}},
    {"partition": {"clients": 240}},
    {"partition": {"clients": 241}},
    {"partition": {"rule": "natural"}},
    {"partition": {"rule": "dirichlet", "alpha": 0.0}},
    {"partition": {"rule": "dirichlet", "alpha": 0.001}},
    {"partition": {"rule": "dirichlet", "min_samples": 21}},
    {"partition": {"rule": "shards"}},
    {"partition": {"rule": "quantity"}},
    {"partition": {"rule": "drawing", "clients": 1000}},
    {"partition": {"rule": "drawing", "test_fraction": 0.0}},
    {"participation": {"rule": "number", "clients": 13}},
    {"participation": {"rule": "number", "clients": 1}},
    {"participation": {"rule": "fraction", "fraction": 0.01}},
    {"evaluation": {"clients": 13, "clients_every": 1}},
    {"evaluation": {"clients": 2}},
    {"data": {"test_samples": 0}},
    {"data": {"samples": 1}},
    {"data": {"owners": 500}},
    {"data": {"shape": [2]}},
    {"data": {"shape": [1, 1, 1, 1, 1]}},
    {"data": {"shape": [1_000_000, 1_000_000, 1_000_000, 1_000_000]}},
    {"data": {"samples": 2**31 - 1, "shape": [1_000_000]}},
    {"data": {"source": "npz", "file": "/nowhere/x.npz"}},
    {"data": {"source": "fashion-mnist", "folder": "/nowhere"}},
    {"protocol": {"name": "fedavg"}},
    {"score": {"half": "client"}},
    {"run": {"device": "cuda"}},
    {"run": {"preset": "literal"}},
    {"run": {"preset": "averaging"}},
]


def change(tree: Tree, draw: Any) -> None:
    """Make one mistake, or something that may be one."""
    kind = draw(st.sampled_from(["meaning", "meaning", "value", "value", "value", "key", "section", "rule", "flat"]))
    names = sorted(SECTIONS)
    name = draw(st.sampled_from(names))
    if kind == "meaning":
        for section, table in draw(st.sampled_from(MEANINGS)).items():
            tree[section] = {**tree.get(section, {}), **table} if isinstance(tree.get(section, {}), dict) else table
        return
    if kind == "section":
        tree[draw(st.text(max_size=8))] = {"a": 1}
        return
    if kind == "flat" or not isinstance(tree.get(name, {}), dict):
        tree[name] = draw(WRONG_VALUES)
        return
    section = SECTIONS[name]
    table = tree.setdefault(name, {})
    if kind == "rule" and isinstance(section, Registry):
        table[section.key] = draw(st.sampled_from(section.names()) | WRONG_VALUES)
    elif kind == "key":
        table[draw(st.text(max_size=8))] = draw(WRONG_VALUES)
    else:
        chosen = section.get(table.get(section.key, section.default)) if isinstance(section, Registry) else section
        table[draw(st.sampled_from(sorted(chosen.model_fields)))] = draw(WRONG_VALUES)


def damage(text: bytes, draw: Any) -> bytes:
    """Cut a file, or put bytes into it that are no TOML."""
    place = draw(st.integers(0, len(text)))
    return text[:place] + draw(st.binary(max_size=4)) + text[place + draw(st.integers(0, 5)) :]


@st.composite
def malformed(draw: Any, valid: Tree) -> bytes:
    tree = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        try:
            change(tree, draw)
        except ConfigError:  # an earlier change broke the rule whose settings this one would change
            continue
    text = tomli_w.dumps(tree).encode()
    return damage(text, draw) if draw(st.integers(0, 9)) == 0 else text


VALID = {
    "run": {"device": "cpu"},
    "data": {"source": "synthetic", "shape": [1, 4, 4], "classes": 4, "samples": 240, "test_samples": 20},
    "partition": {"rule": "iid", "clients": 12},
    "model": {"name": "mlp", "hidden": [8]},
    "training": {"batch_size": 8},
    "groups": {"number": 3},
}


def is_too_large_to_try(config: Config) -> bool:
    """Return whether a configuration is right but would keep this machine busy."""
    partition = config.partition.model_dump()
    return bool(partition.get("clients", 0) > 100_000 or config.run.threads > 4)


def problem_with(action: Callable[[], object]) -> UserError | None:
    """Return the user's mistake that stops an action, or None; anything else escapes and fails the test."""
    try:
        action()
    except UserError as error:
        return error
    return None


def check_one_line(text: str) -> None:
    assert text
    assert text == " ".join(text.split())
    assert "Traceback" not in text


class TestHundredsOfMalformedConfigurations:
    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(text=malformed(VALID))
    @example(text=b"")
    @example(text=b"\xff")
    @example(text=b"[run]\nrounds = 0x" + b"f" * 9000)
    def test_never_a_traceback(self, tmp_path_factory: pytest.TempPathFactory, text: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "malformed.toml"
        path.write_bytes(text)
        problem = problem_with(lambda: load(path))
        if problem is not None:
            check_one_line(str(problem))
            assert str(problem).startswith((str(path), "cannot read the configuration"))
        elif not is_too_large_to_try(config := load(path)):
            problem = problem_with(lambda: build_world(config, SerialCommunicator()))
            check_one_line(str(problem))
            assert not isinstance(problem, ConfigError) or str(problem).startswith(f"{problem.key} = ")

    @pytest.mark.parametrize("changes", MEANINGS, ids=lambda changes: json.dumps(changes)[:40])
    def test_meanings_one_by_one(self, tiny: Maker, changes: Tree) -> None:
        tree = tiny(**changes)
        problem = problem_with(lambda: build_world(resolve(tree), SerialCommunicator()))
        check_one_line(str(problem))
        cause = getattr(problem, "__cause__", None) or problem  # ranks that agreed on a problem say whose it was
        assert problem is None or isinstance(cause, ConfigError) or "/nowhere" in str(problem)


IMPOSSIBLE: list[tuple[Tree, str]] = [
    ({"groups": {"number": 13}}, "groups.number = 13: only 12 clients take part"),
    ({"groups": {"number": 1}}, "groups.number = 1: "),
    ({"model": {"cut": "relu7"}}, "model.cut = 'relu7': "),
    ({"model": {"hidden": [65536] * 64}}, "model.name = 'mlp': its parameters take"),
    ({"training": {"batch_size": 21}}, "training.batch_size = 21: the largest client has"),
    ({"threat": {"attack": "sign-flip", "clients": 13}}, "threat.clients = 13: there are only 12 clients"),
    ({"threat": {"attack": "none", "clients": 1}}, "threat.clients = 1: "),
    ({"bounds": {"lower": 9.0}}, "bounds.lower = 9.0: must not exceed"),
    ({"partition": {"test_fraction": 1.0}}, "partition.test_fraction = 1.0: "),
    ({"data": {"test_samples": 0}, "partition": {"test_fraction": 0.0}}, "partition.test_fraction = 0.0: "),
    ({"partition": {"clients": 241}}, "partition.clients = 241: "),
    ({"partition": {"rule": "dirichlet", "alpha": 0}}, "partition.alpha = 0"),
    ({"participation": {"rule": "number", "clients": 13}}, "participation.clients = 13: "),
    ({"participation": {"rule": "fraction", "fraction": 0.01}}, "groups.number = 3: only 1 clients take part"),
    ({"evaluation": {"clients": 13, "clients_every": 1}}, "evaluation.clients = 13: there are only 12 clients"),
    ({"evaluation": {"clients": 2}}, "evaluation.clients = 2: does nothing"),
    ({"data": {"samples": 2**31 - 1, "shape": [1_000_000]}}, "data.samples = 2147483647: with data.shape they take"),
    ({"data": {"source": "npz", "file": "/nowhere/x.npz"}}, "/nowhere/x.npz"),
    ({"model": {"name": "lenet5"}}, "model.name = 'lenet5': needs images"),
    ({"score": {"half": "left"}}, "score.half = 'left': "),
    ({"threshold": {"k": "3"}}, "threshold.k = '3': "),
    ({"run": {"preset": "best"}}, "run.preset = 'best': "),
    ({"run": {"seed": True}}, "run.seed = True: "),
    ({"run": {"rounds": 2.0}}, "run.rounds = 2.0: "),
    ({"trace": {"dtype": "float64"}}, "trace.dtype = 'float64': "),
    ({"privacy": {}}, "privacy = {}: unknown"),
    ({"perturbation": {"rule": "gaussian", "clip": 0.0}}, "perturbation.clip = 0.0: "),
    ({"global_aggregation": {"tolerance": 1}}, "global_aggregation.tolerance = 1: "),
]


class TestCommandLine:
    @pytest.mark.parametrize(("changes", "text"), IMPOSSIBLE, ids=lambda value: str(value)[:40])
    def test_one_line_and_exit_code_2(self, tmp_path: Path, tiny: Maker, changes: Tree, text: str) -> None:
        path = tmp_path / "config.toml"
        path.write_text(tomli_w.dumps(tiny(**changes)))
        result = CliRunner().invoke(main, ["run", str(path), "--out", str(tmp_path / "run")])
        assert result.exit_code == 2
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("hpcfsl: ")
        assert text in line
        assert "Traceback" not in line

    @pytest.mark.parametrize("data", [b"\xff\xfe[run]", b"[run", b"= 3", b"[run]\nrounds = 0x" + b"f" * 9000])
    def test_broken_files(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "config.toml"
        path.write_bytes(data)
        result = CliRunner().invoke(main, ["run", str(path), "--out", str(tmp_path / "run")])
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert line.startswith("hpcfsl: ")
        assert not (tmp_path / "run").exists()
