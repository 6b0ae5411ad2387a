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

from hpcfsl.cli import main
from hpcfsl.config import (
    SECTIONS,
    Config,
    changed_settings,
    json_schema,
    load,
    load_text,
    resolve,
    result_settings,
)
from hpcfsl.data.sources import sources
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.presets import PRESETS
from hpcfsl.settings import Registry
from hpcfsl.world import build_world

Tree = dict[str, dict[str, Any]]
Maker = Callable[..., Tree]


def choices() -> list[tuple[str, str, str]]:
    registries = {name: section for name, section in SECTIONS.items() if isinstance(section, Registry)}
    return [(name, section.key, choice) for name, section in registries.items() for choice in section.names()]


def required(section: str, choice: str) -> dict[str, Any]:
    if (section, choice) == ("clock", "devices"):
        rates = dict.fromkeys(("gflops", "up_mbps", "down_mbps"), 1.0)
        return {"classes": [{"name": "a", "share": 0.25, **rates}, {"name": "b", "share": 0.75, **rates}]}
    if section != "data":
        return {}
    fields = {key: field for key, field in sources.get(choice).model_fields.items() if field.is_required()}
    return {key: "path" if field.annotation is str else ["column"] for key, field in fields.items()}


def beside(section: str, choice: str) -> Tree:
    """Return the sections that a choice cannot do without."""
    if section == "screening" and choice != "none":
        return {"protocol": {"name": "parallel", "undo": "screen"}}
    return {}


class TestRoundTrip:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_a_resolved_preset_reads_back_equal(self, preset: str) -> None:
        config = resolve({"run": {"preset": preset}})
        assert load_text(config.to_toml()) == config

    @pytest.mark.parametrize(("section", "key", "choice"), choices())
    def test_every_choice_reads_back_equal(self, section: str, key: str, choice: str) -> None:
        config = resolve({section: {key: choice, **required(section, choice)}, **beside(section, choice)})
        assert load_text(config.to_toml()) == config
        assert config.tree()[section][key] == choice

    def test_defaults_are_written_out(self) -> None:
        tree = resolve({}).tree()
        assert set(tree) == set(SECTIONS)
        assert tree["threshold"] == {
            "rule": "mad",
            "scope": "pooled",
            "window": 5,
            "max_excluded": 0.5,
            "k": 3.0,
            "floor": 0.05,
        }


class TestPresets:
    def test_an_own_setting_goes_before_the_preset(self) -> None:
        assert resolve({"threshold": {"k": 2.5}}).threshold.model_dump()["k"] == 2.5

    def test_further_settings_of_a_preset_belong_to_its_rule(self) -> None:
        threshold = resolve({"threshold": {"rule": "quantile"}}).threshold
        assert threshold.rule == "quantile"
        assert threshold.scope == "group"  # not the preset's "pooled"

    def test_naming_the_rule_of_the_preset_keeps_the_rest_of_it(self) -> None:
        assert resolve({"threshold": {"rule": "mad"}}).threshold.scope == "pooled"

    def test_averaging_switches_the_method_off(self) -> None:
        config = resolve({"run": {"preset": "averaging"}})
        assert (config.threshold.rule, config.bounds.lower, config.bounds.upper) == ("none", 1.0, 1.0)


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "section", "key", "value"),
        [
            ("run.rounds=7", "run", "rounds", 7),
            (" run.seed = 3 ", "run", "seed", 3),
            ("model.name=mlp", "model", "name", "mlp"),
            ('model.name="mlp"', "model", "name", "mlp"),
            ("training.learning_rate=0.5", "training", "learning_rate", 0.5),
            ("data.standardise=false", "data", "standardise", False),
        ],
    )
    def test_a_value_is_toml_or_a_bare_word(self, override: str, section: str, key: str, value: Any) -> None:
        assert load_text("", (override,)).tree()[section][key] == value

    def test_an_array(self) -> None:
        config = load_text("", ("model.name=mlp", "model.hidden=[4, 5]"))
        assert config.tree()["model"]["hidden"] == [4, 5]

    def test_the_last_one_wins(self) -> None:
        assert load_text("[run]\nrounds = 2", ("run.rounds=3", "run.rounds=4")).run.rounds == 4

    @pytest.mark.parametrize("override", ["", "run", "run.rounds", "rounds=3", ".rounds=3", "run.=3", "=", "a\nb"])
    def test_another_form_is_refused(self, override: str) -> None:
        with pytest.raises(UserError, match=r"write it as section\.key=value") as caught:
            load_text("", (override,))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("override", "text"),
        [
            ("run.rounds=many", "run.rounds = 'many': "),
            ("run.rounds=", "run.rounds = '': "),
            ("run.a.b=1", "run.a.b = 1: unknown"),
            ("run.seed=" + "9" * 5000, "run.seed = '999"),
        ],
    )
    def test_a_wrong_value_is_named(self, override: str, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load_text("", (override,))
        assert str(caught.value).startswith(text)

    def test_a_section_that_is_no_table(self) -> None:
        with pytest.raises(ConfigError, match="run = 3: must be a table of settings"):
            load_text("run = 3", ("run.rounds=3",))


class TestMistakes:
    @pytest.mark.parametrize(
        ("tree", "text"),
        [
            ({"trainnig": {}}, "trainnig = {}: unknown; did you mean 'training'? choose one of run, data"),
            ({"run": {"round": 3}}, "run.round = 3: unknown; did you mean 'rounds'? choose one of "),
            ({"groups": {"rule": "randm"}}, "groups.rule = 'randm': unknown; did you mean 'random'?"),
            ({"groups": {"rule": 3}}, "groups.rule = 3: unknown; choose one of fixed, random, stratified"),
            ({"groups": {"number": 1}}, "groups.number = 1: input should be greater than or equal to 2"),
            ({"groups": 3}, "groups = 3: must be a table of settings"),
            ({"run": []}, "run = []: must be a table of settings"),
            ({"data": {"source": "npz"}}, "data.file = None: must be given"),
            ({"run": {"seed": -1}}, "run.seed = -1: "),
            ({"training": {"learning_rate": math.nan}}, "training.learning_rate = nan: must be a finite number"),
            ({"model": {"name": "mlp", "hidden": [math.inf]}}, "model.hidden = inf: must be a finite number"),
            ({"run": {"rounds": 2**64}}, "run.rounds = '0x10000000000000000': must be a number of at most 64 bits"),
            ({"bounds": {"lower": 9.0}}, "bounds.lower = 9.0: must not exceed bounds.upper = 8.0"),
            ({"bounds": {"sum_over": "all"}}, "bounds.sum_over = 'all': lets an excluded client change"),
            (
                {"evaluation": {"clients": 3}},
                "evaluation.clients = 3: does nothing while evaluation.clients_every is 0",
            ),
            (
                {"protocol": {"name": "fedavg"}, "score": {"half": "client"}},
                "score.half = 'client': protocol 'fedavg' has no halves; use 'both'",
            ),
            (
                {"model": {"cut": "none"}, "score": {"half": "server"}},
                "score.half = 'server': protocol 'splitfed-v1' with model.cut = 'none' has no halves; use 'both'",
            ),
            (
                {"model": {"cut": "none"}, "threat": {"attack": "smashed-noise", "clients": 1}},
                "threat.attack = 'smashed-noise': protocol 'splitfed-v1' with model.cut = 'none' sends no smashed data",
            ),
        ],
    )
    def test_the_text_names_key_value_and_fix(self, tree: Tree, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            resolve(tree)
        assert str(caught.value).startswith(text)

    def test_the_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "config.toml"
        path.write_text("[run]\nrounds = 0\n")
        with pytest.raises(UserError, match=r"config\.toml: run\.rounds = 0: "):
            load(path)

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"\xff\xfe", "cannot read the configuration"),
            (b"[run", "not valid TOML"),
            (b"a = 1\na = 2", "not valid TOML"),
            (b"a = " + b"[" * 5000, "not valid TOML"),
            (b"a = " + b"1" * 5000, "not valid TOML"),
            (b"[run]\nrounds = [[[[[[[[[[[[1]]]]]]]]]]]]", "run.rounds = '...': is nested too deeply"),
            (b"[run]\nrounds = 0x" + b"f" * 9000, "run.rounds = '0xfff"),
            (b"[run]\nrounds = 1979-05-27", "run.rounds = '1979-05-27'"),
            (b"[run.rounds]\na = 1", "run.rounds = {'a': 1}"),
        ],
    )
    def test_broken_files(self, tmp_path: Path, data: bytes, text: str) -> None:
        path = tmp_path / "config.toml"
        path.write_bytes(data)
        with pytest.raises(UserError) as caught:
            load(path)
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_files(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.toml", tmp_path):
            with pytest.raises(UserError, match="cannot read the configuration"):
                load(path)


class TestResultSettings:
    def test_only_what_bears_on_bits(self) -> None:
        kept = json.loads(result_settings(resolve({})))
        assert "rounds" not in kept["run"]
        assert kept["run"]["threads"] == 1
        assert not {"checkpoint_rounds", "checkpoint_seconds", "deadline_seconds"} & set(kept["run"])
        assert kept["trace"] == {}

    def test_execution_and_record_may_change(self) -> None:
        before = result_settings(resolve({}))
        after = resolve({"run": {"rounds": 99, "checkpoint_rounds": 1}, "trace": {"updates": "none"}})
        assert result_settings(after) == before

    def test_changed_settings_are_named(self) -> None:
        before = result_settings(resolve({}))
        after = resolve({"run": {"seed": 1}, "threshold": {"rule": "none", "scope": "pooled"}})
        assert changed_settings(before, result_settings(after)) == [
            "run.seed (0, not 1)",
            "threshold.floor (0.05, not absent)",
            "threshold.k (3.0, not absent)",
            "threshold.rule ('mad', not 'none')",
        ]
        assert changed_settings(before, before) == []


# Enough of JSON Schema for what pydantic says of flat settings classes.
TYPES = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "array": list, "object": dict}


def fits(schema: dict[str, Any], value: Any) -> bool:
    if "anyOf" in schema:
        return any(fits(option, value) for option in schema["anyOf"])
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    expected = TYPES[schema["type"]]
    if not isinstance(value, expected) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return False
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        known = schema.get("additionalProperties", True) or set(value) <= set(properties)
        return known and all(fits(properties[name], inner) for name, inner in value.items() if name in properties)
    if isinstance(value, list):
        return all(fits(schema["items"], inner) for inner in value)
    if isinstance(value, str | bool):
        return len(value) >= schema.get("minLength", 0) if isinstance(value, str) else True
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return low <= value <= high and above < value < below


class TestJsonSchema:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_resolved_preset_fits(self, preset: str) -> None:
        schema, tree = json_schema(), resolve({"run": {"preset": preset}}).tree()
        assert set(schema["properties"]) == set(tree)
        for name, table in tree.items():
            assert fits(schema["properties"][name], table), name

    @pytest.mark.parametrize(("section", "key", "choice"), choices())
    def test_every_choice_fits(self, section: str, key: str, choice: str) -> None:
        tree = {section: {key: choice, **required(section, choice)}, **beside(section, choice)}
        assert fits(json_schema(), tree)
        assert fits(json_schema(), resolve(tree).tree())

    def test_a_section_may_leave_its_choice_out(self) -> None:
        assert fits(json_schema(), {"groups": {"number": 3}, "threshold": {"k": 2.0}})

    @pytest.mark.parametrize(
        "tree", [{"groups": {"rule": "none"}}, {"groups": {"number": 1}}, {"run": {"seed": 1.5}}, {"runs": {}}]
    )
    def test_mistakes_do_not_fit(self, tree: Tree) -> None:
        assert not fits(json_schema(), tree)

    def test_is_plain_json_and_describes_every_setting(self) -> None:
        schema = json.loads(json.dumps(json_schema()))
        assert "$ref" not in json.dumps(schema)
        for name, section in schema["properties"].items():
            for table in section.get("anyOf", [section]):
                assert table["additionalProperties"] is False
                for key, setting in table["properties"].items():
                    assert setting.get("description") or "const" in setting, f"{name}.{key}"


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
    """Whatever stands in a configuration file: it works, or one line says what is wrong with which setting."""

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
