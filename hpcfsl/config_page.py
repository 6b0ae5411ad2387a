"""The text of `docs/configuration.md`, rendered from the settings classes so that it cannot drift from them.

Layer 4. Only what is built in is listed; packages that register more settings document them themselves. Write the page
anew with `python -c "from hpcfsl.config_page import render; print(render(), end='')" > docs/configuration.md`, and
`hpcfsl/config.schema.json` with `hpcfsl schema --out hpcfsl/config.schema.json`.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, TypeGuard, get_args

from hpcfsl.config import SECTIONS, Section, resolve
from hpcfsl.presets import PRESETS
from hpcfsl.settings import Registry, Settings, bears_on

_INTRODUCTION = """\
# Configuration

A run is configured by one TOML file of sections and keys. Every setting has a default except `data.file`; an empty file
is a run of ten rounds on handwritten digits.

```toml title="first.toml"
[run]
rounds = 40
seed = 1

[partition]
parts = 2            # two clients of each writer's form

[groups]
number = 4

[threat]
attack = "label-flip"
clients = 4
```

- **Choices.** Most sections have one key that picks a choice (`rule`, `name`, `source`, `attack`, `reading`); the other
  keys are those of that choice. A key that the choice does not have is an error, never ignored.
- **Types are strict.** `rounds = "40"` is an error. A whole number is taken for a number with a fraction, not the
  other way round. NaN and infinities are refused.
- **Presets.** `run.preset` fills in the method's sections ([method.md](method.md) has the table). What the file says
  goes first, then the preset, then the default below. A preset's further keys belong to its own choice: with another
  `threshold.rule` than the preset's, that section starts from its defaults.
- **Overrides.** `--set section.key=value`, as often as wanted, replaces one value of the file. The value is read as
  TOML; what is not TOML is taken as text, so `--set threat.attack=alie` needs no further quotes.
- **The resolved file.** `config.toml` in the run folder has every default written out and can be run as it is.
- **From Python.** `hpcfsl.run({"run": {"rounds": 40}}, out="runs/first")` takes the same sections as dictionaries.

A mistake is one line with the key, the value and the fix, and exit status 2:

```
hpcfsl: first.toml: score.rul = 'distance': unknown; did you mean 'rule'? choose one of half, memory, rule
```

## What a setting bears on

| bears on | meaning | when a run is continued |
|---|---|---|
| result | the bits of the result | must stay as it was; only `run.rounds` may change |
| execution | speed, safety, memory | may change |
| record | what is written down | may change |

`hpcfsl digest` also covers the recorded updates: compare digests of runs with the same `[trace]` settings.

## Editors

An editor that knows the JSON Schema completes keys, shows their descriptions and marks mistakes while you type. Write
the schema beside your files, with the choices of all installed packages in it:

```sh
hpcfsl schema --out hpcfsl.schema.json
```

and name it in the first line of each configuration:

```toml
#:schema ./hpcfsl.schema.json
```

Taplo, and Even Better TOML for Visual Studio Code, which is built on it, read that line. The schema of what is built in
also lies in the package, as `hpcfsl/config.schema.json`. It knows neither presets nor rules that span sections, and
where a section leaves out its choice, it admits the keys of any choice; the program checks all of that at the start.

# Settings

This part is rendered from the settings classes. Bounds are inclusive where they say "to", "at least" or "at most".
"""

_HEAD = "| key | value | default | bears on | meaning |\n|---|---|---|---|---|"


def render() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(name, section) for name, section in SECTIONS.items())])


def render_presets() -> str:
    """Return the table of the presets, for `docs/method.md`: one row a setting that any preset gives."""
    keys = dict.fromkeys((section, key) for tree in PRESETS.values() for section in tree for key in tree[section])
    lines = ["| setting | " + " | ".join(f"`{name}`" for name in PRESETS) + " |", "|---" * (len(PRESETS) + 1) + "|"]
    for section, key in sorted(keys, key=lambda place: list(SECTIONS).index(place[0])):
        cells = [_resolved(preset, section, key) for preset in PRESETS]
        if set(cells) == {"-"}:
            continue  # a setting of other choices than the default one
        lines.append(f"| `{section}.{key}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _resolved(preset: str, section: str, key: str) -> str:
    """Return the value that a run with nothing but a preset has; a dash where its choice has no such key."""
    table = resolve({"run": {"preset": preset}}).tree()[section]
    return f"`{_toml(table[key])}`" if key in table else "-"


def _section(name: str, section: Section) -> str:
    if isinstance(section, Registry):
        return _choices(name, section)
    rows = [_row(section, key) for key in section.model_fields]
    return "\n".join([f"## `[{name}]`", "", _text(section), *_presets(name), "", _HEAD, *rows, ""])


def _choices(name: str, registry: Registry[Any]) -> str:
    classes = [cls for cls in map(registry.get, registry.names()) if cls.__module__.startswith("hpcfsl.")]
    base: type[Settings] = next(cls for cls in classes[0].__mro__[1:] if all(issubclass(each, cls) for each in classes))
    shared = [key for key in base.model_fields if key != registry.key and _is_shared(key, base, classes)]
    parts = [f"## `[{name}]`", "", _text(base), *_presets(name), "", f"| `{registry.key}` | |", "|---|---|"]
    parts += [f"| `{_choice(cls, registry)}` | {_text(cls)} |" for cls in classes]
    parts += ["", f"Where neither file nor preset says, `{registry.key}` is `{registry.default}`.", ""]
    if shared:
        parts += [f"With every `{registry.key}`:", "", _HEAD, *(_row(base, key) for key in shared), ""]
    for cls in classes:
        own = [key for key in cls.model_fields if key != registry.key and key not in shared]
        parent = next((each for each in cls.__mro__[1:] if each in classes), None)
        title = f'With `{registry.key} = "{_choice(cls, registry)}"`:'
        if parent is not None:
            own = [key for key in own if _row(cls, key) != _row(parent, key)]
            title = f"{title.removesuffix(':')}, as with `{_choice(parent, registry)}` but for:"
        if own:
            parts += [title, "", _HEAD, *(_row(cls, key) for key in own), ""]
    return "\n".join([*parts, *_entries(classes)])


def _entries(classes: list[type[Settings]]) -> list[str]:
    """Return the tables of what an entry of an array of tables holds."""
    found: dict[type[Settings], str] = {}
    for cls in classes:
        for key, field in cls.model_fields.items():
            found |= dict.fromkeys((entry for entry in get_args(field.annotation) if _is_settings(entry)), key)
    parts: list[str] = []
    for entry, key in found.items():
        parts += [f"Each entry of `{key}`:", "", _HEAD, *(_row(entry, name) for name in entry.model_fields), ""]
    return parts


def _is_settings(candidate: object) -> TypeGuard[type[Settings]]:
    return isinstance(candidate, type) and issubclass(candidate, Settings)


def _is_shared(key: str, base: type[Settings], classes: list[type[Settings]]) -> bool:
    """Return whether a key means the same in every choice."""
    return all(_row(cls, key) == _row(base, key) for cls in classes)


def _choice(cls: type[Settings], registry: Registry[Any]) -> str:
    return str(cls.model_fields[registry.key].default)


def _presets(section: str) -> list[str]:
    """Return the lines that say what the presets put into a section."""
    lines = []
    for preset, sections in PRESETS.items():
        values = ", ".join(f"`{key} = {_toml(value)}`" for key, value in sections.get(section, {}).items())
        if values:
            lines.append(f"- preset `{preset}`: {values}")
    return ["", *lines] if lines else []


def _text(cls: type[Settings]) -> str:
    """Return a class's description, without the section's name, which the heading has, and without words to authors."""
    text = re.sub(r" \(section `\[\w+\]`\)", "", _cell(inspect.getdoc(cls) or ""))
    return re.sub(r"; a subclass adds .*| Subclasses add .*", lambda found: "." * found[0].startswith(";"), text)


def _row(cls: type[Settings], key: str) -> str:
    schema = cls.model_json_schema()["properties"][key]
    default = f"`{_toml(schema['default'])}`" if "default" in schema else "must be given"
    if schema.get("type") == "array" and "$ref" in schema["items"] and "default" in schema:
        default = "; ".join(_entry(value) for value in schema["default"])
    meaning = _cell(schema.get("description", ""))
    return f"| `{key}` | {_values(schema)} | {default} | {bears_on(cls, key)} | {meaning} |"


def _values(schema: dict[str, Any]) -> str:
    """Return in words which values a JSON Schema admits."""
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{_toml(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`", "string": "text"}
    if schema["type"] == "array":
        inner, least, most = schema["items"], schema.get("minItems", 0), schema["maxItems"]
        if "$ref" in inner:
            return f"{least} to {most} tables"
        return f"array of {least} to {most}: {_values(inner)}"
    return " ".join([kind[schema["type"]], _bounds(schema)]).strip()


def _entry(value: dict[str, Any]) -> str:
    """Return an entry of an array of tables in one short line."""
    return ", ".join(f"`{key} = {_toml(inner)}`" for key, inner in value.items())


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}" if isinstance(high, int) else f"{low:g} to {high:g}"
    names = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return ", ".join(f"{word} {schema[name]:,.10g}" for name, word in names.items() if name in schema)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
