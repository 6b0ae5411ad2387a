"""What a sweep is: a base configuration, settings to vary, seeds; and the runs that follow.

    base = "robustness.toml"      # beside this file
    seeds = [0, 1, 2]

    [fixed]                       # for all runs
    run.rounds = 20

    [grid]                        # every combination
    run.preset = ["averaging", "hardened"]

    [[case]]                      # each of these with every combination
    name = "no-attack"

    [[case]]
    name = "label-flip"
    threat.attack = "label-flip"
    threat.clients = 6

A run's folder is named after its settings, so a sweep can grow: what is there already keeps its name.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field

from hpcfsl.config import SECTIONS, Config, load_text
from hpcfsl.errors import ConfigError, UserError, one_line
from hpcfsl.settings import Registry, Settings, parse, suggest

_LONGEST_NAME = 120
_SAFE = re.compile(r"[A-Za-z0-9_.=+-]+")
SEED = "run.seed"
Values = dict[str, Any]


class Sweep(Settings):
    """A sweep file."""

    base: str = Field(min_length=1)
    """The configuration that all runs start from, relative to the sweep file."""
    seeds: tuple[int, ...] = ()
    """A run of each case with each of these as `run.seed`; empty for the base's own."""
    fixed: Values = {}
    """Settings for all runs."""
    grid: Values = {}
    """Lists of values; every combination is a case."""
    case: tuple[Values, ...] = ()
    """Settings that go together, each with a `name`; every one with every combination of the grid."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: Name of its folder.
        case: Name of its case; empty where the sweep has none.
        settings: What sets it apart from others, dotted name to value; without the seed.
        seed: Its `run.seed`.
        config: All settings.
    """

    name: str
    case: str
    settings: Values
    seed: int
    config: Config


def read_sweep(path: Path, overrides: tuple[str, ...] = ()) -> list[Member]:
    """Return the runs of a sweep file: cases in order, seeds within.

    Args:
        path: The sweep file.
        overrides: `section.key=value` settings for all runs.

    Raises:
        UserError: The file or its base cannot be read, or a run's settings cannot be used; the text names the run.
    """
    sweep = parse(Sweep, _read(path), "sweep")
    base = _read(path.parent / sweep.base)
    members = list(_members(sweep, base, overrides, path))
    names = [member.name for member in members]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(one_line(f"{path}: two runs would be {double}; leave one out"))
    return members


def _members(sweep: Sweep, base: Values, overrides: tuple[str, ...], path: Path) -> Iterator[Member]:
    fixed = flatten(sweep.fixed, "fixed")
    for case, own, values in _combinations(sweep):
        settings = {**own, **values}
        _check_once({**fixed, **settings}, overrides, sweep.seeds)
        for seed in sweep.seeds or (None,):
            name = member_name(case, values, seed)
            changes = {**fixed, **settings, **({} if seed is None else {SEED: seed})}
            try:
                config = load_text(tomli_w.dumps(apply(base, changes)), overrides)
            except UserError as error:
                raise UserError(f"{path}: run {name}: {error}") from None
            yield Member(name=name, case=case, settings=settings, seed=config.run.seed, config=config)


def _combinations(sweep: Sweep) -> Iterator[tuple[str, Values, Values]]:
    """Yield name and settings of each case with the values of each combination of the grid."""
    grid = flatten(sweep.grid, "grid")
    for key, tried in grid.items():
        if not isinstance(tried, list) or not tried:
            raise ConfigError(f"sweep.grid.{key}", tried, "must be a list of values to try")
    for name, own in [_read_case(entry) for entry in sweep.case] or [("", {})]:
        double = next((key for key in own if key in grid), None)
        if double is not None:
            raise ConfigError(f"sweep.case.{double}", own[double], "is in the grid as well; leave one out")
        for values in itertools.product(*grid.values()):
            yield name, own, dict(zip(grid, values, strict=True))


def _check_once(settings: Values, overrides: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """Refuse a setting that is given in two ways, one of which would be ignored without a word."""
    if seeds and SEED in settings:
        raise ConfigError("sweep.seeds", list(seeds), f"{SEED} is set by the sweep as well; leave one out")
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in settings or (seeds and key == SEED):
            raise UserError(one_line(f"--set {override}: the sweep sets {key} itself; leave one out"))


def _read_case(entry: Values) -> tuple[str, Values]:
    name = entry.get("name")
    if not isinstance(name, str) or not _SAFE.fullmatch(name):
        raise ConfigError("sweep.case.name", name, "every case needs a name of letters, digits and _ . = + -")
    return name, flatten({key: value for key, value in entry.items() if key != "name"}, "case")


def flatten(tree: Mapping[str, Any], where: str) -> Values:
    """Return a table of settings as dotted name to value; `"run.seed" = 1` and `run.seed = 1` are the same.

    Raises:
        ConfigError: A name without a section, or of an unknown section.
    """
    flat: Values = {}
    for name, value in tree.items():
        section, dot, _ = name.partition(".")
        entries = {name: value} if dot else {f"{name}.{key}": inner for key, inner in _table(value, where, name)}
        if section not in SECTIONS:
            raise ConfigError(f"sweep.{where}.{name}", value, suggest(section, list(SECTIONS)))
        flat.update(entries)
    return flat


def _table(value: object, where: str, name: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise ConfigError(f"sweep.{where}.{name}", value, "write it as section.key")
    return list(value.items())


def apply(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Values:
    """Return a configuration's tree with changes in it, dotted name to value.

    Where a section gets another choice (`threat.attack`, `model.name`, ...), what the base says of the old choice is
    left out: it means nothing to the new one.
    """
    tree = {name: dict(table) if isinstance(table, dict) else table for name, table in base.items()}
    for section in {key.partition(".")[0]: None for key in changes}:
        ours = {key.partition(".")[2]: value for key, value in changes.items() if key.partition(".")[0] == section}
        old = tree.get(section, {})
        kind = SECTIONS[section]
        other = isinstance(kind, Registry) and kind.key in ours and ours[kind.key] != old.get(kind.key, kind.default)
        tree[section] = ours if other else {**old, **ours}
    return tree


def member_name(case: str, settings: Mapping[str, Any], seed: int | None) -> str:
    """Return a folder's name for a run: its case, its settings, its seed; with a hash where those are not plain.

    Names are told apart by the hash wherever a value had to be rewritten or cut.
    """
    parts = [f"{key}={_text(value)}" for key, value in settings.items()]
    parts = [*([case] if case else []), *parts, *([] if seed is None else [f"seed={seed}"])]
    exact = "__".join(parts) or "base"
    if _SAFE.fullmatch(exact) and len(exact) <= _LONGEST_NAME:
        return exact
    mark = hashlib.sha256(exact.encode()).hexdigest()[:8]
    return "-".join(_SAFE.findall(exact))[:_LONGEST_NAME] + f"-{mark}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _read(path: Path) -> Values:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(one_line(f"cannot read {path}: {error.strerror or error}")) from None
    except (ValueError, RecursionError) as error:
        raise UserError(one_line(f"{path}: not valid TOML: {error}")) from None
