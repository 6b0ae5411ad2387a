"""What one round hands to the trace.

Layer 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """The rows that one round adds to the tables.

    Attributes:
        round: Number of the round.
        tables: Table name -> column name -> values, [rows] or [rows, axis]. Any subset of the tables of
            `hpcfsl.trace.schema.TABLES`, each with all of its columns. Text may be `str` or `bytes`.
    """

    round: int
    tables: Mapping[str, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class RunTexts:
    """What every file of a run carries about the run.

    Attributes:
        config_text: The resolved configuration, TOML.
        provenance: Versions, machine and command line, JSON.
        result_settings: The settings that bear on the result, canonical JSON; part of the digest.
        component_names: Names of the score components, the second axis of `participation/components`.
    """

    config_text: str
    provenance: str
    result_settings: str
    component_names: tuple[str, ...]
