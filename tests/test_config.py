from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.choices import Tree, choices, tree_of

from hpcfsl.config import SECTIONS, changed_settings, load, load_text, resolve, result_settings
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.presets import PRESETS


class TestRoundTrip:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_a_resolved_preset_reads_back_equal(self, preset: str) -> None:
        config = resolve({"run": {"preset": preset}})
        assert load_text(config.to_toml()) == config

    @pytest.mark.parametrize(("section", "key", "choice"), choices())
    def test_every_choice_reads_back_equal(self, section: str, key: str, choice: str) -> None:
        config = resolve(tree_of(section, key, choice))
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
