from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import hpcfsl
from hpcfsl.config import SECTIONS, json_schema, resolve
from hpcfsl.config_page import render, render_presets
from hpcfsl.settings import Registry

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_say() -> None:
    hint = "write it anew: its command is in the head of hpcfsl/config_page.py"
    assert PAGE.read_text(encoding="utf-8") == render(), hint


def test_the_page_has_every_section_choice_and_key() -> None:
    sections = dict(re.findall(r"^## `\[(\w+)\]`\n(.*?)(?=^## |\Z)", render(), re.DOTALL | re.MULTILINE))
    assert list(sections) == list(SECTIONS)
    for name, section in SECTIONS.items():
        classes = [section.get(choice) for choice in section.names()] if isinstance(section, Registry) else [section]
        for cls in classes:
            for key in cls.model_fields:
                assert f"`{key}`" in sections[name], (name, cls, key)
            if isinstance(section, Registry):
                assert f"| `{cls.model_fields[section.key].default}` |" in sections[name]


def test_the_page_tells_bounds_defaults_and_what_a_setting_bears_on() -> None:
    text = render()
    assert "| `checkpoint_seconds` | number above 0 | `600.0` | execution |" in text
    assert '| `dtype` | `"float32"`, `"float16"` | `"float32"` | record |' in text
    assert "| `file` | text | must be given | result |" in text
    assert "| `number` | whole number 2 to 1,000,000 | `4` | result |" in text
    assert "array of 1 to 4: whole number 1 to 1,000,000" in text
    assert "subclass" not in text.lower()
    assert "None" not in text


def test_the_method_page_has_the_presets() -> None:
    assert render_presets() in (ROOT / "docs" / "method.md").read_text(encoding="utf-8")


def test_the_table_of_presets_says_what_runs_have() -> None:
    for line in render_presets().splitlines()[2:]:
        place, *cells = [cell.strip().strip("`") for cell in line.strip("| ").split("|")]
        section, key = place.split(".")
        for preset, cell in zip(("hardened", "literal", "averaging"), cells, strict=True):
            table = resolve({"run": {"preset": preset}}).tree()[section]
            assert table.get(key) == (None if cell == "-" else json.loads(cell))


def test_the_shipped_schema_is_what_the_settings_say() -> None:
    shipped = Path(hpcfsl.__file__).with_name("config.schema.json").read_text(encoding="utf-8")
    hint = "write it anew: hpcfsl schema --out hpcfsl/config.schema.json"
    assert shipped == json.dumps(json_schema(), indent=2) + "\n", hint


def test_the_schema_has_every_section() -> None:
    assert list(json_schema()["properties"]) == [field.name for field in fields(resolve({}))]
