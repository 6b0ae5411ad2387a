"""Typed, frozen settings and the registry that plug-ins enter themselves into.

Layer 0. A plug-in (a score, a threshold, a model, a source, ...) is one frozen `Settings` class whose fields are its
settings and whose methods are its behaviour; it is one file and one `@registry.register`. Packages outside this tree
register through the entry point group `hpcfsl.<kind>`.

Every setting says what it bears on: `result` (the bits of a run; locked once a run has started), `execution` (how
fast and where) or `record` (what is written down). `result` is the default; use `execution()` and `record()` else.
"""

from __future__ import annotations

import difflib
import json
from importlib.metadata import entry_points
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from hpcfsl.errors import ConfigError

BearsOn = Literal["result", "execution", "record"]
S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every settings class: frozen, strict types, no unknown keys, no infinities."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    def replace(self: S, **changes: Any) -> S:
        """Return a validated copy with `changes` applied."""
        return type(self).model_validate({**dict(self), **changes})


def execution(default: Any, **bounds: Any) -> Any:
    """Return a field that changes speed or place, never a bit of the result."""
    return Field(default, json_schema_extra={"bears_on": "execution"}, **bounds)


def record(default: Any, **bounds: Any) -> Any:
    """Return a field that changes what is written down, never a bit of the result."""
    return Field(default, json_schema_extra={"bears_on": "record"}, **bounds)


def bears_on(settings: type[Settings], key: str) -> BearsOn:
    """Return what the field `key` of a settings class bears on."""
    extra = settings.model_fields[key].json_schema_extra
    found = extra.get("bears_on", "result") if isinstance(extra, dict) else "result"
    assert found in ("result", "execution", "record")
    return found  # type: ignore[return-value]  # narrowed by the assertion above


class Registry(Generic[S]):
    """The named choices for one section of the configuration.

    Args:
        kind: The section's name, for messages and the entry point group `hpcfsl.<kind>`.
        key: The setting whose value picks the choice (`rule`, `name`, ...).
        default: The choice when the setting is left out; None where it must be given.
    """

    def __init__(self, kind: str, *, key: str = "rule", default: str | None = None) -> None:
        self.kind, self.key, self.default = kind, key, default
        self._classes: dict[str, type[S]] = {}
        self._outside_loaded = False

    def register(self, cls: type[S]) -> type[S]:
        """Enter a settings class under the one value that its `key` field admits; return the class unchanged."""
        name = cls.model_fields[self.key].default
        if self._classes.get(name, cls).__qualname__ != cls.__qualname__:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._classes[name] = cls
        return cls

    def names(self) -> list[str]:
        """Return the names of all choices, in alphabetic order."""
        return sorted(self._all())

    def get(self, name: object) -> type[S]:
        """Return the class registered as `name`.

        Raises:
            ConfigError: There is none; the text lists the choices.
        """
        classes = self._all()
        if not isinstance(name, str) or name not in classes:
            raise ConfigError(f"{self.kind}.{self.key}", name, suggest(name, self.names()))
        return classes[name]

    def parse(self, tree: object) -> S:
        """Return the validated settings of one section (a TOML table)."""
        if not isinstance(tree, dict):
            raise ConfigError(self.kind, tree, "must be a table of settings")
        name = tree.get(self.key, self.default)
        if name is None:
            raise ConfigError(
                f"{self.kind}.{self.key}", None, f"must be given; choose one of {', '.join(self.names())}"
            )
        return parse(self.get(name), tree, self.kind)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the section: one alternative a choice; several fit where the choice is left out."""
        return {"anyOf": [_whole(self.get(name).model_json_schema()) for name in self.names()]}

    def _all(self) -> dict[str, type[S]]:
        if not self._outside_loaded:
            self._outside_loaded = True
            for point in entry_points(group=f"hpcfsl.{self.kind}"):
                self.register(point.load())
        return self._classes


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with what it refers to in the places of the references: it can be part of a larger one."""
    parts = schema.pop("$defs", {})

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        part = parts[value["$ref"].rpartition("/")[2]] if "$ref" in value else {}
        return {name: fill(inner) for name, inner in {**part, **value}.items() if name != "$ref"}

    filled: dict[str, Any] = fill(schema)
    return filled


def parse(cls: type[S], tree: object, section: str) -> S:
    """Validate a TOML table against a settings class.

    Raises:
        ConfigError: The first thing wrong, with key, value and fix.
    """
    if not isinstance(tree, dict):
        raise ConfigError(section, tree, "must be a table of settings")
    try:
        # Through JSON, because pydantic's strict mode then still takes an array for a tuple.
        return cls.model_validate_json(json.dumps(tree, default=_refuse))
    except ValidationError as error:
        raise _explain(cls, error.errors(include_url=False), section) from None


def suggest(given: object, known: list[str]) -> str:
    """Return "unknown; did you mean ...; known: ..." for a misspelt name."""
    near = difflib.get_close_matches(str(given), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown; {hint}choose one of {', '.join(known)}"


def _refuse(value: object) -> object:
    # Dates and times are TOML, but no setting is one; a string fails the field's own check with its name.
    return str(value)


def _explain(cls: type[Settings], errors: list[ErrorDetails], section: str) -> ConfigError:
    first = errors[0]
    where = [str(part) for part in first["loc"]]
    key, value = ".".join([section, *where]), first.get("input")
    if first["type"] == "extra_forbidden":
        return ConfigError(key, value, suggest(where[-1], sorted(cls.model_fields)))
    if first["type"] == "missing":
        return ConfigError(key, None, "must be given")
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(key, value, message[0].lower() + message[1:])
