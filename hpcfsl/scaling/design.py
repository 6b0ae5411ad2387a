"""The small real runs that the cost model is fitted to and tested on.

Layer 4. Settings spread over parameters (1e4 to 1e6), groups (4 to 32), clients (24 to 400), even and uneven clients,
two models, two rules across groups. Held out from the fit are whole settings, and all settings at two of the five rank
counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RANKS = (1, 2, 3, 4, 8)
HELD_OUT_RANKS = (3, 8)
WARM_ROUNDS = 1
LAST_ROUNDS = 1
"""Rounds at the end that are not timed: every run commits when it ends."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One run of the design.

    Attributes:
        name: For tables.
        model: `mlp` or `lenet5`.
        hidden: Widths of the hidden layers of the MLP on 64 features.
        groups: Groups.
        clients: Clients, all of them in every round.
        samples: Training samples of a client, on average.
        uneven: Whether clients hold very different numbers of samples.
        rule: Rule across groups.
        updates: Updates that are recorded.
        commits: Whether it commits after every round, or not at all in the timed ones.
        held_out: Whether the fit must not see it.
        alone: Whether it runs on one rank only: a cheap setting that tells apart what else grows alike.
    """

    name: str
    model: str = "mlp"
    hidden: tuple[int, ...] = ()
    groups: int
    clients: int
    samples: int = 50
    uneven: bool = False
    rule: str = "geometric-median"
    updates: str = "none"
    commits: bool = True
    held_out: bool = False
    alone: bool = False

    def tree(self, rounds: int) -> dict[str, dict[str, Any]]:
        """Return the configuration as tables."""
        partition = {"rule": "quantity", "law": "lognormal", "skew": 0.6} if self.uneven else {"rule": "iid"}
        model: dict[str, Any] = {"name": self.model}
        return {
            "run": {"rounds": rounds, "checkpoint_rounds": 1 if self.commits else rounds, "device": "cpu"},
            "data": {
                "source": "synthetic",
                "shape": [64] if self.model == "mlp" else [1, 28, 28],
                "samples": self.clients * self.samples,
                "test_samples": 2000,
            },
            "partition": {**partition, "clients": self.clients},
            "model": model if self.model != "mlp" else {**model, "hidden": list(self.hidden)},
            "training": {"batch_size": 10},
            "groups": {"number": self.groups},
            "global_aggregation": {"rule": self.rule},
            "evaluation": {"shard": 250},
            "trace": {"updates": self.updates},
        }


DESIGN: tuple[Setting, ...] = (
    Setting(name="mlp 1e4", hidden=(120, 20), groups=4, clients=40, commits=False),
    Setting(name="mlp 1e4, many", hidden=(120, 20), groups=16, clients=400, samples=20, updates="global"),
    Setting(name="mlp 1e5", hidden=(512, 128), groups=8, clients=80, updates="group"),
    Setting(
        name="mlp 1e5, uneven", hidden=(512, 128), groups=16, clients=80, uneven=True, rule="weighted", commits=False
    ),
    Setting(name="mlp 1e6", hidden=(2048, 400), groups=4, clients=24, samples=20, commits=False),
    Setting(name="mlp 1e6, groups", hidden=(2048, 400), groups=16, clients=32, samples=20, updates="group"),
    Setting(name="lenet5", model="lenet5", groups=4, clients=40),
    Setting(name="lenet5, small", model="lenet5", groups=8, clients=120, samples=20, commits=False),
    Setting(name="lenet5, groups", model="lenet5", groups=32, clients=64, samples=20, updates="global"),
    Setting(name="rows", hidden=(120, 20), groups=4, clients=400, samples=20, alone=True),
    Setting(name="group rows", hidden=(120, 20), groups=32, clients=64, samples=20, commits=False, alone=True),
    Setting(name="many rows", hidden=(120, 20), groups=32, clients=320, samples=20, updates="group", alone=True),
    Setting(name="vectors", hidden=(2048, 400), groups=4, clients=8, samples=20, updates="group", alone=True),
    Setting(name="one vector", hidden=(2048, 400), groups=4, clients=8, samples=20, updates="global", alone=True),
    Setting(
        name="no distances",
        hidden=(2048, 400),
        groups=12,
        clients=24,
        samples=20,
        rule="weighted",
        commits=False,
        alone=True,
    ),
    Setting(name="mlp 3e4", hidden=(256, 64), groups=8, clients=160, commits=False, held_out=True),
    Setting(name="mlp 3e5", hidden=(1024, 256), groups=12, clients=72, samples=30, updates="global", held_out=True),
    Setting(name="mlp 6e5, uneven", hidden=(1500, 350), groups=8, clients=40, uneven=True, held_out=True),
    Setting(name="mlp 1e5, 32 groups", hidden=(512, 128), groups=32, clients=128, samples=20, held_out=True),
    Setting(name="lenet5, uneven", model="lenet5", groups=16, clients=80, samples=30, uneven=True, held_out=True),
)


def chosen(names: tuple[str, ...]) -> tuple[Setting, ...]:
    """Return the settings with these names, in the design's order."""
    return tuple(setting for setting in DESIGN if setting.name in names)
