"""The same configuration gives the same bits on any number of ranks of any kind of MPI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from support.mpirun import run_ranks

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.trace.compare import compare
from hpcfsl.trace.digest import digest

Maker = Callable[..., dict[str, dict[str, Any]]]
# Many runs in one launch, on however few cores.
SECONDS = 300.0
PROGRAM = Path(__file__).parent / "programs" / "many_runs.py"
FLIP = {"attack": "label-flip", "clients": 3}
EVALUATION = {"clients_every": 2, "shard": 7}

CASES: dict[str, dict[str, dict[str, Any]]] = {
    "hardened": {
        "threshold": {"rule": "mad", "scope": "pooled"},
        "global_aggregation": {"rule": "geometric-median"},
        "groups": {"number": 5},
        "threat": FLIP,
        "evaluation": EVALUATION,
    },
    "literal": {"run": {"preset": "literal"}, "threat": FLIP},
    "aggregation_reading": {
        "weights": {"reading": "aggregation"},
        "global_aggregation": {"rule": "coordinate-median"},
        "server_optimizer": {"rule": "momentum"},
        "compression": {"rule": "top-k"},
        "groups": {"number": 4},
    },
    "perturbed": {
        "perturbation": {"rule": "gaussian", "noise_multiplier": 0.01},
        "global_aggregation": {"rule": "centred-clipping"},
        "server_optimizer": {"rule": "yogi"},
        "training": {"batch_size": 8, "server_learning_rate": 0.02, "server_half_learning_rate": 0.05},
        "groups": {"number": 6},
        "threat": {"attack": "non-finite", "clients": 2},
    },
    "faults_and_clock": {
        "faults": {
            **{"rule": "random", "dropout_before": 0.1, "dropout_during": 0.1, "dropout_after": 0.1},
            **{"nan": 0.05, "infinity": 0.05, "huge": 0.05, "coordinates": "one"},
        },
        "clock": {"rule": "phones", "jitter": 0.5, "straggler_probability": 0.2, "deadline_seconds": 1.0},
        "protocol": {"name": "splitfed-v1", "device_cuts": [{"device_class": "slow-phone", "cut": "linear1"}]},
        "groups": {"number": 5},
        "threat": FLIP,
    },
    "text": {
        "data": {"source": "synthetic-text", "symbols": 5, "positions": 6, "samples": 240, "test_samples": 40},
        "model": {"name": "gru-lm", "hidden": 8},
        "threat": FLIP,
        "evaluation": EVALUATION,
    },
    "numbers": {
        "data": {"source": "diabetes"},
        "partition": {"rule": "quantity", "clients": 9},
        "training": {"loss": "huber", "batch_size": 4},
        "groups": {"number": 3},
        "evaluation": {**EVALUATION, "held_out_clients": 2},
    },
    "kept": {
        "run": {"client_state_mib": 0.01},
        "protocol": {"name": "splitfed-v3"},
        "training": {"batch_size": 8, "local_epochs": 2, "drift": "scaffold"},
        "participation": {"rule": "number", "clients": 9},
        "threat": FLIP,
        "evaluation": EVALUATION,
    },
    "in_turn": {"protocol": {"name": "splitfed-v2"}, "threat": FLIP, "groups": {"number": 5}},
    "together": {
        "protocol": {"name": "parallel", "undo": "screen"},
        "screening": {"rule": "centroids"},
        "threat": FLIP,
    },
    "u_shaped": {
        "run": {"hold_mib": 0.0},
        "model": {"hidden": [8, 6]},
        "protocol": {"name": "u-shaped", "undo": "replay"},
        "training": {"batch_size": 8, "local_epochs": 2},
        "threat": FLIP,
    },
    # Two groups leave most of the ranks without one; twelve give each rank several.
    "few_groups": {"groups": {"number": 2}, "participation": {"rule": "number", "clients": 7}},
    "many_groups": {
        "groups": {"rule": "fixed", "number": 12, "min_survivors": 1},
        "threshold": {"rule": "mad", "scope": "memory", "window": 2},
        "participation": {"rule": "fraction", "fraction": 0.6},
        "partition": {"rule": "dirichlet", "clients": 30},
        "training": {"batch_size": 4},
    },
}
GROUPS = {name: case.get("groups", {}).get("number", 3) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configs")


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory, configs: Path, tiny: Maker) -> Path:
    """Return the folder of the runs without a launcher, in this process; made once."""
    folder = tmp_path_factory.getbasetemp() / "alone"
    for name, changes in CASES.items():
        if not (folder / name).exists():
            tree = tiny(**changes)
            (configs / f"{name}.toml").write_text(tomli_w.dumps(tree))
            hpcfsl.run(resolve(tree), out=folder / name)
    return folder


@pytest.mark.parametrize("size", [2, 3])
def test_a_float32_sum_is_near_on_any_number_of_ranks(size: int, tiny: Maker, tmp_path: Path) -> None:
    tree = tiny(groups={"number": 5}, global_aggregation={"reduction": "float32"})
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "plain.toml").write_text(tomli_w.dumps(tree))
    alone = hpcfsl.run(resolve(tree), out=tmp_path / "alone")
    ended = run_ranks(size, PROGRAM, tmp_path / "configs", tmp_path / "runs")
    assert ended.code == 0, ended.stderr
    other = hpcfsl.open(tmp_path / "runs" / "plain")
    assert (difference := compare(alone, other, rtol=1e-3)) is None, difference
    assert (other.column("rounds", "reduction_difference") < 1e-6).all()


# `jobs/same_bits.sh` has the second MPI at all sizes too.
SIZES = [*(("own", size) for size in (1, 2, 3, 4, 8)), ("mpich", 2), ("mpich", 8), ("system", 3)]


@pytest.mark.parametrize(("mpi", "size"), SIZES)
def test_any_number_of_ranks_of_any_mpi_gives_the_same_digest(
    mpi: str, size: int, alone: Path, configs: Path, tmp_path: Path
) -> None:
    ended = run_ranks(size, PROGRAM, configs, tmp_path, seconds=SECONDS, mpi=mpi)
    assert ended.code == 0, ended.stderr
    for name in CASES:
        mine, other = hpcfsl.open(alone / name), hpcfsl.open(tmp_path / name)
        assert other.table("ranks")["rank"].tolist() == list(range(size))
        assert (difference := compare(mine, other)) is None, f"{name}: {difference}"
        assert digest(mine) == digest(other)
        np.testing.assert_array_equal(mine.weights(), other.weights())
        hosts = np.unique(other.column("group_rounds", "rank"))
        assert len(hosts) == min(size, GROUPS[name])


def test_groups_on_other_ranks_each_round_give_the_same_digest(alone: Path, tmp_path: Path, tiny: Maker) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    tree = tiny(**{**CASES["hardened"], "run": {"placement": "rotating"}})
    (configs / "hardened.toml").write_text(tomli_w.dumps(tree))
    ended = run_ranks(3, PROGRAM, configs, tmp_path, seconds=SECONDS)
    assert ended.code == 0, ended.stderr
    moved = hpcfsl.open(tmp_path / "hardened")
    assert moved.column("group_rounds", "rank").reshape(3, 5).tolist() == [
        [(g + r) % 3 for g in range(5)] for r in range(3)
    ]
    assert digest(moved) == digest(hpcfsl.open(alone / "hardened"))
