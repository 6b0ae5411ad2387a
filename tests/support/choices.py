"""Every choice of every section of the configuration, with what it cannot do without."""

from __future__ import annotations

from typing import Any

from hpcfsl.config import SECTIONS
from hpcfsl.data.sources import sources
from hpcfsl.settings import Registry

Tree = dict[str, dict[str, Any]]


def choices() -> list[tuple[str, str, str]]:
    """Return (section, key, choice) of every choice."""
    registries = {name: section for name, section in SECTIONS.items() if isinstance(section, Registry)}
    return [(name, section.key, choice) for name, section in registries.items() for choice in section.names()]


def required(section: str, choice: str) -> dict[str, Any]:
    """Return the settings of a choice that have no default."""
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


def tree_of(section: str, key: str, choice: str) -> Tree:
    """Return the least configuration that makes a choice."""
    return {section: {key: choice, **required(section, choice)}, **beside(section, choice)}
