"""The JSON Schema that editors check configuration files with says what the settings say."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from support.choices import Tree, choices, tree_of

from hpcfsl.config import json_schema, resolve
from hpcfsl.presets import PRESETS

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
        tree = tree_of(section, key, choice)
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
