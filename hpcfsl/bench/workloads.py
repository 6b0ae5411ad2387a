"""What is measured: each workload is one frozen description of data, model and cohort, the same for every contender.

Every client has 50 samples and takes 5 steps of plain SGD with batches of 10 and a learning rate of .1; a population of
1,000 clients shares generated samples of the right shape. The figures are those of pfl's CIFAR10 benchmark (Granqvist
et al., "pfl-research", NeurIPS 2024), applied to other models as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hpcfsl.errors import UserError, shorten
from hpcfsl.settings import suggest

Tree = dict[str, dict[str, Any]]
Preset = Literal["averaging", "hardened"]

NEVER = 1_000_000_000
"""Rounds between evaluations where nobody evaluates."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One benchmark.

    Attributes:
        name: What `--workload` calls it.
        title: What tables call it.
        data: The `[data]` table, without the number of samples.
        model: The `[model]` table.
        cohort: Clients in a round.
        population: Clients in all.
        samples: Samples of a client.
        pool: Samples in the data set; 0 for `samples` of its own for every client.
        batch: Samples in a local step.
        learning_rate: Step size of local SGD.
        protocol: The split protocol.
        groups: Groups in a round; memory follows their size.
        peers: Names of the peers that can do this work.
        rounds: Rounds that are timed where only one is wanted; 0 to fill the seconds asked for.
        preset: Preset of the run: plain averaging, or the whole method.
    """

    name: str
    title: str
    data: dict[str, Any]
    model: dict[str, Any]
    cohort: int
    population: int = 1000
    samples: int = 50
    pool: int = 0
    batch: int = 10
    learning_rate: float = 0.1
    protocol: str = "fedavg"
    groups: int = 4
    peers: tuple[str, ...] = ()
    rounds: int = 0
    preset: Preset = "averaging"

    @property
    def num_samples(self) -> int:
        """Samples in the data set."""
        return self.pool or self.samples * self.population

    def tree(self, preset: Preset | None = None) -> Tree:
        """Return the configuration: plain averaging, or under "hardened" the whole method with perturbation."""
        preset = preset or self.preset
        method = preset == "hardened"
        # A data set as large as all clients together is dealt out; from a smaller one every client draws its own.
        partition = {"rule": "iid"} if not self.pool else {"rule": "drawing", "samples": self.samples}
        return {
            "run": {"preset": preset, "rounds": NEVER},
            "data": {**self.data, "samples": self.num_samples, "standardise": False},
            "partition": {**partition, "clients": self.population, "test_fraction": 0.0},
            "participation": {"rule": "number", "clients": self.cohort},
            "model": dict(self.model),
            "protocol": {"name": self.protocol},
            "groups": {"number": self.groups},
            "training": {"batch_size": self.batch, "learning_rate": self.learning_rate},
            "perturbation": {"rule": "gaussian", "noise_multiplier": 0.01} if method else {"rule": "none"},
            "evaluation": {"every": NEVER},
            "trace": {} if method else {"updates": "none"},
        }


@dataclass(frozen=True, kw_only=True)
class Images:
    """The `[data]` table of generated images or feature vectors."""

    shape: tuple[int, ...]
    classes: int = 10
    extra: dict[str, Any] = field(default_factory=dict)

    def table(self) -> dict[str, Any]:
        """Return the table; the few test samples are never looked at."""
        return {
            "source": "synthetic",
            "shape": list(self.shape),
            "classes": self.classes,
            "test_samples": 100,
            **self.extra,
        }


PEERS = ("pfl", "flower")
_LENET, _DIGITS = Images(shape=(1, 28, 28)).table(), Images(shape=(1, 8, 8)).table()
_CIFAR = Images(shape=(3, 32, 32)).table()
_CIFAR_CNN = {"name": "cifar-cnn", "dropout1": 0.25, "dropout2": 0.5}
_TEXT = {"source": "synthetic-text", "symbols": 90, "positions": 80, "test_samples": 100}

_ALL = (
    Workload(
        name="mlp",
        title="MLP 64-32-10",
        data=Images(shape=(64,)).table(),
        model={"name": "mlp", "hidden": [32]},
        cohort=200,
        peers=PEERS,
    ),
    Workload(name="lenet", title="LeNet-5", data=_LENET, model={"name": "lenet5"}, cohort=100, peers=PEERS),
    Workload(name="cifar", title="CIFAR CNN", data=_CIFAR, model=_CIFAR_CNN, cohort=50, peers=("pfl",)),
    Workload(name="gru", title="GRU next-character", data=_TEXT, model={"name": "gru-lm"}, cohort=50, peers=("pfl",)),
    Workload(
        name="digits",
        title="digits CNN, whole method",
        data=_DIGITS,
        model={"name": "digits-cnn"},
        cohort=100,
        protocol="splitfed-v1",
        preset="hardened",
    ),
    Workload(
        name="lenet-10000",
        title="LeNet-5, 10,000 clients in a round",
        data=_LENET,
        model={"name": "lenet5"},
        cohort=10_000,
        population=10_000,
        pool=60_000,
        groups=40,
        rounds=1,
        preset="hardened",
    ),
    Workload(
        name="population-20m",
        title="20,000,000 clients, addressed lazily",
        data=_DIGITS,
        model={"name": "digits-cnn"},
        cohort=100,
        population=20_000_000,
        pool=60_000,
        rounds=1,
        preset="hardened",
    ),
)
WORKLOADS = {workload.name: workload for workload in _ALL}

SPEED_WORKLOADS = ("mlp", "lenet", "cifar", "gru", "digits")
"""What is measured where no workload is named."""

METHOD_WORKLOADS = ("digits", "cifar", "lenet", "mlp", "gru")
"""What `--method` measures where no workload is named; the first two have a goal."""

OVERHEAD_WORKLOADS = ("digits", "lenet", "cifar", "mlp")
"""What `--overheads` measures where no workload is named."""


def find_workload(name: str) -> Workload:
    """Return the workload of that name.

    Raises:
        UserError: There is none; the text lists them.
    """
    if name not in WORKLOADS:
        raise UserError(f"--workload {shorten(name)}: {suggest(name, list(WORKLOADS))}")
    return WORKLOADS[name]
