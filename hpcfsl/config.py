"""The whole configuration of a run: every section's settings, composed and checked.

Layer 4. Each section's class lives beside the code it configures; this module only names the sections, and reads them
with the preset's defaults filled in.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field

from hpcfsl.aggregate import GlobalAggregation, GroupOperation, global_aggregations, group_operations
from hpcfsl.aggregate.server import ServerOptimizer, server_optimizers
from hpcfsl.clock import Clock, clocks
from hpcfsl.combinations import check_combinations
from hpcfsl.data.participation import Participation, participations
from hpcfsl.data.partitions import Partition, partitions
from hpcfsl.data.sources import Source, sources
from hpcfsl.defense.grouping import Grouping, groupings
from hpcfsl.defense.scoring import Score, scores
from hpcfsl.defense.screening import Screening, screenings
from hpcfsl.defense.threshold import Threshold, thresholds
from hpcfsl.defense.weighting import Bounds, Reading, readings
from hpcfsl.defense.weighting.influence import Influence, influences
from hpcfsl.defense.weighting.normalisation import Normalisation, normalisations
from hpcfsl.errors import ConfigError, UserError, one_line, shorten
from hpcfsl.faults import Faults, faults
from hpcfsl.models import Model, models
from hpcfsl.parallel.placement import Placement
from hpcfsl.presets import PRESETS
from hpcfsl.privacy import Perturbation, perturbations
from hpcfsl.settings import Registry, Settings, bears_on, execution, parse, record, suggest
from hpcfsl.threats import Threat, threats
from hpcfsl.training.compression import Compression, compressions
from hpcfsl.training.protocols import Protocol, protocols
from hpcfsl.training.settings import TrainingSettings


class RunSettings(Settings):
    """How long, from which seed, and how safely (section `[run]`)."""

    preset: Literal["hardened", "literal", "averaging"] = "hardened"
    """Defaults for the method's sections: `hardened` (guards on), `literal` (the description's words and nothing more)
    or `averaging` (plain federated averaging, the baseline)."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Key of all randomness."""
    rounds: int = Field(10, ge=1, lt=2**31)
    """Rounds to run in all; may be raised to extend a finished run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where training runs; `auto` takes the GPU of this rank where there is one."""
    share_devices: bool = execution(False)
    """Several ranks may take one GPU; if false, more ranks on a node than GPUs are an error."""
    threads: int = Field(1, ge=1, le=1024)
    """Threads of each rank. Matrix products have other bits at another number, so the machine does not choose it."""
    checkpoint_rounds: int = execution(50, ge=1)
    """Commit trace and checkpoint at least every so many rounds."""
    checkpoint_seconds: float = execution(600.0, gt=0)
    """Commit at the end of the first round after so many seconds."""
    hold_mib: float = execution(1024.0, ge=0)
    """Uploads that a rank holds in memory while they wait for all groups' scores (`threshold.scope = "pooled"`); more
    of them wait in a scratch file in the folder that TMPDIR names, else in the run folder."""
    client_state_mib: float = execution(1024.0, ge=0)
    """What stays with clients from round to round (personal parts of the model, SCAFFOLD's variates) that a rank holds
    in memory: for the clients whose home it is, and as much again for those that visit it in a round; more lies in
    scratch files, as for `hold_mib`."""
    placement: Placement = execution("longest-first")
    """Which rank trains which group: `longest-first` spreads the predicted work evenly, `rotating` deals the groups out
    in turn, to other ranks each round."""
    share_data: bool = execution(True)
    """The ranks of a node hold the data once, together; if false, each rank loads a copy of its own."""
    data_cache: str = execution("")
    """Folder in which the data is kept as mapped files, best on a fast disk of the node: later starts do not read and
    convert it again, and it may exceed the memory; empty to hold it in memory."""
    deadline_seconds: float = execution(1800.0, gt=0)
    """How long a rank may work on one step (such as the training of one group), or wait for ranks that give no sign of
    life; after that the job is ended and says which rank is to blame."""


class EvaluationSettings(Settings):
    """When the global model is tested, and on what (section `[evaluation]`)."""

    every: int = Field(1, ge=1)
    """Test on the global test set after every so many rounds (never at an odd last one: a longer run must equal it)."""
    clients_every: int = Field(0, ge=0)
    """Test on every evaluated client's own held-out samples after every so many rounds; 0 never."""
    clients: int = Field(0, ge=0)
    """How many clients are evaluated, the same ones every time; 0 takes all."""
    held_out_clients: int = Field(0, ge=0)
    """Clients that never train, drawn once; the model is tested on all of their samples whenever it is tested on the
    global test set, which holds none of them."""
    held_out_owners: tuple[Annotated[int, Field(ge=0)], ...] = Field((), max_length=100_000)
    """Instead, the natural clients all of whose clients never train, to leave one speaker out for example."""
    shard: int = Field(500, ge=1)
    """Test samples evaluated together; fixed, so that the loss has the same bits on any number of ranks."""


class TraceSettings(Settings):
    """What is written down (section `[trace]`)."""

    updates: Literal["none", "global", "group", "client"] = record("group")
    """Which updates are recorded: none, the target update, also every group's second model update, or also every
    client's upload as its aggregator used it."""
    every: int = record(1, ge=1)
    """Record updates of every so many rounds."""
    dtype: Literal["float32", "float16"] = record("float32")
    """Precision of recorded updates."""
    buffer_mib: float = execution(64.0, gt=0)
    """Updates are held in memory up to this size before they are written."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run, one field a section."""

    run: RunSettings
    data: Source
    partition: Partition
    participation: Participation
    model: Model
    protocol: Protocol
    training: TrainingSettings
    compression: Compression
    groups: Grouping
    perturbation: Perturbation
    screening: Screening
    score: Score
    threshold: Threshold
    influence: Influence
    normalisation: Normalisation
    bounds: Bounds
    weights: Reading
    group_operation: GroupOperation
    global_aggregation: GlobalAggregation
    server_optimizer: ServerOptimizer
    threat: Threat
    faults: Faults
    clock: Clock
    evaluation: EvaluationSettings
    trace: TraceSettings

    def tree(self) -> dict[str, dict[str, Any]]:
        """Return every setting, defaults written out, as plain tables."""
        return {field.name: getattr(self, field.name).model_dump(mode="json") for field in fields(self)}

    def to_toml(self) -> str:
        """Return the resolved configuration as TOML; `load_text` takes it back."""
        return tomli_w.dumps(self.tree())


Section = Registry[Any] | type[Settings]

# Tables and arrays inside a section; no setting has more than one.
_DEEPEST = 8

SECTIONS: dict[str, Section] = {
    "run": RunSettings,
    "data": sources,
    "partition": partitions,
    "participation": participations,
    "model": models,
    "protocol": protocols,
    "training": TrainingSettings,
    "compression": compressions,
    "groups": groupings,
    "perturbation": perturbations,
    "screening": screenings,
    "score": scores,
    "threshold": thresholds,
    "influence": influences,
    "normalisation": normalisations,
    "bounds": Bounds,
    "weights": readings,
    "group_operation": group_operations,
    "global_aggregation": global_aggregations,
    "server_optimizer": server_optimizers,
    "threat": threats,
    "faults": faults,
    "clock": clocks,
    "evaluation": EvaluationSettings,
    "trace": TraceSettings,
}


def load(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Return the configuration of a TOML file, with `section.key=value` overrides applied.

    Raises:
        UserError: The file is missing or not TOML, or a setting cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(one_line(f"cannot read the configuration {path}: {error}")) from None
    try:
        return load_text(text, overrides)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def load_text(text: str, overrides: tuple[str, ...] = ()) -> Config:
    """Return the configuration that a TOML text gives; see `load`."""
    tree = _read_toml(text)
    for override in overrides:
        _apply(tree, override)
    return resolve(tree)


def resolve(tree: Mapping[str, Any]) -> Config:
    """Return the validated configuration of a tree of plain tables, defaults and preset filled in.

    Raises:
        ConfigError: The first thing wrong, with key, value and fix.
    """
    for name, table in tree.items():
        if name not in SECTIONS:
            raise ConfigError(name, table, suggest(name, list(SECTIONS)))
        _check_numbers(table, name)
    run = parse(RunSettings, tree.get("run", {}), "run")
    defaults = PRESETS[run.preset]
    sections: dict[str, Any] = {}
    for name in SECTIONS:
        if name == "screening" and sections["protocol"].undoes == "screen":  # which needs a rule
            defaults = {name: {"rule": "distance"}, **defaults}
        if name != "run":
            sections[name] = _parse_section(name, tree.get(name, {}), defaults.get(name, {}))
    config = Config(run=run, **sections)
    check_combinations(config)
    return config


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a configuration file, for editors."""
    properties = {
        name: section.json_schema() if isinstance(section, Registry) else section.model_json_schema()
        for name, section in SECTIONS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hpcfsl configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def result_settings(config: Config) -> str:
    """Return, as canonical JSON, the settings that bear on a run's bits; the number of rounds is not among them.

    A table of executors counts by its content, not by its name.
    """
    kept = {
        name: {key: value for key, value in table.items() if bears_on(type(getattr(config, name)), key) == "result"}
        for name, table in config.tree().items()
    }
    del kept["run"]["rounds"]
    table = Path(config.training.table)
    if config.training.table and table.is_file():
        kept["training"]["table"] = "content " + hashlib.sha256(table.read_bytes()).hexdigest()[:16]
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def changed_settings(before: str, after: str) -> list[str]:
    """Return the dotted keys in which two texts of `result_settings` differ, each with both values."""
    old, new = (
        {(s, k): v for s, table in json.loads(text).items() for k, v in table.items()} for text in (before, after)
    )
    absent = object()
    return [
        f"{section}.{key} ({_shown(old, (section, key))}, not {_shown(new, (section, key))})"
        for section, key in sorted({*old, *new})
        if old.get((section, key), absent) != new.get((section, key), absent)
    ]


def _shown(values: Mapping[tuple[str, str], Any], key: tuple[str, str]) -> str:
    return shorten(values[key]) if key in values else "absent"


def _parse_section(name: str, table: Any, defaults: Mapping[str, Any]) -> Settings:
    section = SECTIONS[name]
    if not isinstance(table, dict):
        raise ConfigError(name, table, "must be a table of settings")
    if not isinstance(section, Registry):
        return parse(section, {**defaults, **table}, name)
    if defaults and section.key not in defaults:  # for whichever choice has such settings
        known = section.get(table.get(section.key, section.default)).model_fields
        return _parse_section(name, {**{key: value for key, value in defaults.items() if key in known}, **table}, {})
    # A preset's further settings belong to the preset's rule; with another rule they mean nothing.
    same = table.get(section.key, defaults.get(section.key)) == defaults.get(section.key)
    result: Settings = section.parse({**(defaults if same else {}), **table})
    return result


def _read_toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError("not valid TOML: its tables or arrays are nested too deeply") from None
    except ValueError as error:  # not TOML, or a whole number of thousands of digits
        raise UserError(one_line(f"not valid TOML: {error}")) from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise UserError(one_line(f"--set {override}: write it as section.key=value"))
    try:
        value = _read_toml(f"value = {text}")["value"]
    except UserError:
        value = text  # a bare word is a string, so that no shell needs two layers of quotes
    table = tree.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(section, table, "must be a table of settings")
    table[name] = value


def _check_numbers(value: object, key: str, depth: int = 0) -> None:
    """Refuse what TOML can say and no setting can be: NaN, infinities, whole numbers beyond 64 bits, deep nesting."""
    if depth > _DEEPEST:
        raise ConfigError(key, "...", "is nested too deeply; no setting is")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, f"{key}.{name}", depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_numbers(inner, key, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(key, value, "must be a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        # In base 16, because Python writes no decimal number of thousands of digits.
        raise ConfigError(key, hex(value), "must be a number of at most 64 bits")
