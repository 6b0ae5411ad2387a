"""What tests of the upper layers share: a run that takes milliseconds."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests/support, whichever way pytest was started

CHOICE_KEYS = {"source", "rule", "name", "attack", "reading"}
Tree = dict[str, dict[str, Any]]

TINY: Tree = {
    "run": {"rounds": 3, "device": "cpu"},
    "data": {
        "source": "synthetic",
        "shape": [1, 4, 4],
        "classes": 4,
        "samples": 240,
        "test_samples": 40,
        "owners": 12,
        "noise": 0.5,
    },
    "partition": {"rule": "iid", "clients": 12},
    "model": {"name": "mlp", "hidden": [8]},
    "training": {"batch_size": 8},
    "groups": {"number": 3},
}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide a launcher that the tests themselves may run under, and a terminal's width."""
    launchers = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PALS_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
    for name in (*launchers, "PMIX_RANK", "COLUMNS", "HPCFSL_PROGRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny() -> Callable[..., Tree]:
    """Return a maker of configurations that run in milliseconds.

    A keyword argument changes a section, or takes its place where it names another choice.
    """

    def make(**sections: dict[str, Any]) -> Tree:
        tree = copy.deepcopy(TINY)
        for name, changes in sections.items():
            tree[name] = changes if CHOICE_KEYS & set(changes) else {**tree.get(name, {}), **changes}
        return tree

    return make
