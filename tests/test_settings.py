from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from hpcfsl import errors, settings
from hpcfsl.errors import ConfigError, UserError, one_line, shorten
from hpcfsl.settings import Registry, Settings, bears_on, execution, parse, record, suggest


class Fruit(Settings):
    rule: str
    weight: float = Field(1.0, gt=0, le=10)
    """Kilograms."""


def make_registry(default: str | None = "apple") -> Registry[Fruit]:
    registry: Registry[Fruit] = Registry("fruit", default=default)

    @registry.register
    class Apple(Fruit):
        rule: Literal["apple"] = "apple"
        sizes: tuple[int, ...] = (1, 2)
        """Sizes."""

    @registry.register
    class Pear(Fruit):
        rule: Literal["pear"] = "pear"

    return registry


class Mixed(Settings):
    bits: int = 1
    fast: bool = execution(True)
    kept: int = record(3, ge=0)
    needed: str


def test_settings_are_frozen_strict_and_closed() -> None:
    mixed = Mixed(needed="x")
    with pytest.raises(ValidationError, match="frozen"):
        mixed.bits = 2  # type: ignore[misc]
    for wrong in ({"bits": "1"}, {"bits": 1.0}, {"fast": 1}, {"other": 1}):
        with pytest.raises(ValidationError):
            Mixed(needed="x", **wrong)
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            Fruit(rule="x", weight=number)


def test_replace_checks_again() -> None:
    assert Mixed(needed="x").replace(bits=5) == Mixed(needed="x", bits=5)
    with pytest.raises(ValidationError):
        Mixed(needed="x").replace(kept=-1)


def test_what_a_setting_bears_on() -> None:
    assert [bears_on(Mixed, key) for key in ("bits", "fast", "kept", "needed")] == [
        "result",
        "execution",
        "record",
        "result",
    ]


def test_bounds_and_descriptions_are_in_the_schema() -> None:
    schema = make_registry().json_schema()
    assert len(schema["anyOf"]) == 2
    weight = schema["anyOf"][0]["properties"]["weight"]
    assert weight["description"] == "Kilograms."
    assert weight["exclusiveMinimum"] == 0


def test_parse_picks_the_rule_and_takes_an_array_for_a_tuple() -> None:
    registry = make_registry()
    assert registry.names() == ["apple", "pear"]
    assert registry.parse({}).rule == "apple"
    assert registry.parse({"rule": "pear", "weight": 2}).weight == 2
    assert registry.parse({"sizes": [4, 5]}).model_dump()["sizes"] == (4, 5)
    assert registry.get("pear").__name__ == "Pear"


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"rule": "aple"}, r"fruit\.rule = 'aple': unknown; did you mean 'apple'\? choose one of apple, pear"),
        ({"rule": 3}, r"fruit\.rule = 3: unknown; choose one of"),
        ({"weigt": 2.0}, r"fruit\.weigt = 2\.0: unknown; did you mean 'weight'\?"),
        ({"weight": 0}, r"fruit\.weight = 0: input should be greater than 0"),
        ({"weight": "heavy"}, r"fruit\.weight = 'heavy': input should be a valid number"),
        ({"sizes": [1, "x"]}, r"fruit\.sizes\.1 = 'x': input should be a valid integer"),
        ("apple", r"fruit = 'apple': must be a table of settings"),
    ],
)
def test_mistakes_are_one_line_with_key_value_and_fix(tree: object, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as found:
        make_registry().parse(tree)
    assert "\n" not in str(found.value)


def test_a_rule_without_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"fruit\.rule = None: must be given; choose one of apple, pear"):
        make_registry(default=None).parse({})


def test_plain_sections_and_missing_settings() -> None:
    assert parse(Mixed, {"needed": "x"}, "mixed").needed == "x"
    with pytest.raises(ConfigError, match=r"mixed\.needed = None: must be given"):
        parse(Mixed, {}, "mixed")
    with pytest.raises(ConfigError, match=r"mixed = 3: must be a table"):
        parse(Mixed, 3, "mixed")


def test_dates_are_refused_by_the_fields_own_check() -> None:
    import datetime

    with pytest.raises(ConfigError, match=r"mixed\.bits"):
        parse(Mixed, {"needed": "x", "bits": datetime.date(2024, 1, 1)}, "mixed")


def test_a_validators_own_words_reach_the_user() -> None:
    from pydantic import field_validator

    class Picky(Settings):
        number: int = 1

        @field_validator("number")
        @classmethod
        def _odd(cls, number: int) -> int:
            if number % 2 == 0:
                raise ValueError("Must be odd")
            return number

    with pytest.raises(ConfigError, match=r"picky\.number = 2: must be odd"):
        parse(Picky, {"number": 2}, "picky")


def test_a_name_is_registered_once() -> None:
    registry = make_registry()
    registry.register(registry.get("apple"))

    class Other(Fruit):
        rule: Literal["apple"] = "apple"

    with pytest.raises(ValueError, match="'apple' is registered twice"):
        registry.register(Other)


def test_outside_packages_register_through_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plum(Fruit):
        rule: Literal["plum"] = "plum"

    class Point(EntryPoint):
        def load(self) -> type[Plum]:
            return Plum

    asked: list[str] = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [Point("plum", "outside:Plum", group)]

    monkeypatch.setattr(settings, "entry_points", entry_points)
    registry = make_registry()
    assert registry.names() == ["apple", "pear", "plum"]
    assert isinstance(registry.parse({"rule": "plum"}), Plum)
    assert asked == ["hpcfsl.fruit"]


def test_suggestions() -> None:
    assert suggest("meen", ["mean", "median"]) == "unknown; did you mean 'mean'? choose one of mean, median"
    assert suggest(7, ["mean"]) == "unknown; choose one of mean"


def test_errors_are_one_line_and_short() -> None:
    assert shorten("x" * 200) == "'" + "x" * 36 + " ... " + "x" * 36 + "'"
    assert shorten(5) == "5"
    assert one_line(" a\n  b\tc ") == "a b c"
    error = ConfigError("run.rounds", "a\nb", "use\na number")
    assert str(error) == r"run.rounds = 'a\nb': use a number"
    assert (error.key, error.value, error.fix) == ("run.rounds", "a\nb", "use\na number")
    assert all(issubclass(kind, UserError) for kind in (ConfigError, errors.DataError, errors.RunFolderError))
