"""The virtual time of undoing what an attacker taught a shared server half, by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import hpcfsl
from hpcfsl.clock import clocks
from hpcfsl.models import models
from hpcfsl.models.operations import count_halves, count_undo
from hpcfsl.models.split import cut_points, split
from hpcfsl.trace.reader import Run

Maker = Callable[..., dict[str, dict[str, Any]]]
SLOW = 1e-4  # of the server, in GFLOP/s
LINK = {"up_mbps": 4.0, "down_mbps": 16.0, "latency_ms": 5.0}
CLOCK = {
    "rule": "devices",
    "classes": [{"name": "only", "share": 1.0, "gflops": 0.002, **LINK}],
    "server_gflops": SLOW,
    "server_mbps": 1000.0,
    "server_latency_ms": 1.0,
}
FLIP = {"attack": "label-flip", "clients": 3}
WIDTH = 5  # of a sample
DATA = {"source": "synthetic", "shape": [WIDTH], "classes": 4, "samples": 240, "test_samples": 60, "owners": 12}
# linear1 and relu1 at the client; linear2 8 -> 6 at the server; linear3 6 -> 4 at the server, or in a tail.
FORWARD_CLIENT, MIDDLE, LAST = 2 * WIDTH * 8, 2 * 8 * 6, 2 * 6 * 4


def run_of(tiny: Maker, out: Path, **sections: dict[str, Any]) -> Run:
    tree = tiny(data=DATA, model={"hidden": [8, 6]}, clock=CLOCK, training={"local_epochs": 2}, **sections)
    return hpcfsl.run(tree, out=out)


def across_seconds(run: Run, round: int) -> float:
    rows = run.column("group_rounds", "round") == round
    down = int(run.column("group_rounds", "bytes_across_down")[rows][0])
    up = int(run.column("group_rounds", "bytes_across_up")[rows].max())
    return sum(8 * size / 1e9 + 0.001 for size in (up, down) if size)


class TestReplay:
    @pytest.mark.parametrize("scope", ["group", "pooled"])
    @pytest.mark.parametrize(
        ("protocol", "operations"),
        [
            ("parallel", 2 * MIDDLE + 3 * LAST),  # forward, weights, and below linear3 the gradient of its input
            ("splitfed-v2", 2 * MIDDLE + 3 * LAST),
            ("u-shaped", 2 * MIDDLE),
        ],
    )
    def test_a_round_takes_as_long_as_its_replays(
        self, protocol: str, operations: int, scope: str, tiny: Maker, tmp_path: Path
    ) -> None:
        run = run_of(
            tiny, tmp_path, protocol={"name": protocol, "undo": "replay"}, threat=FLIP, threshold={"scope": scope}
        )
        replayed = run.column("group_rounds", "num_replayed")
        assert (replayed > 0).any()
        for round, found in enumerate(run.column("rounds", "virtual_seconds")):
            rows = run.column("group_rounds", "round") == round
            clients = run.column("participation", "round") == round
            seconds, groups = (run.column("participation", name)[clients] for name in ("virtual_seconds", "group"))
            waited = np.array([seconds[groups == group].max() for group in run.column("group_rounds", "group")[rows]])
            undone = replayed[rows] * operations / (1e9 * SLOW)
            slowest = waited.max() + undone.max() if scope == "pooled" else (waited + undone).max()
            assert found == pytest.approx(slowest + across_seconds(run, round), rel=1e-12)

    def test_time_adds_up_with_it(self, tiny: Maker, tmp_path: Path) -> None:
        run = run_of(tiny, tmp_path, protocol={"name": "parallel"}, threat=FLIP)
        seconds = run.column("rounds", "virtual_seconds")
        np.testing.assert_allclose(run.column("rounds", "virtual_time"), np.cumsum(seconds), rtol=1e-12)

    def test_a_deadline_ends_the_waiting_and_not_the_replay(self, tiny: Maker, tmp_path: Path) -> None:
        clock = {**CLOCK, "straggler_probability": 0.3, "straggler_slowdown": 1e4, "deadline_seconds": 50.0}
        tree = tiny(
            data=DATA,
            model={"hidden": [8, 6]},
            clock=clock,
            protocol={"name": "parallel"},
            threat=FLIP,
            threshold={"scope": "group"},
        )
        run = hpcfsl.run(tree, out=tmp_path)
        late = run.column("rounds", "num_lost") > 0
        assert late.any()
        for round in np.flatnonzero(late):
            rows = run.column("group_rounds", "round") == round
            most = (run.column("group_rounds", "num_replayed") * (run.column("group_rounds", "num_lost") > 0))[rows]
            least = 50.0 + most.max() * (2 * MIDDLE + 3 * LAST) / (1e9 * SLOW)
            assert run.column("rounds", "virtual_seconds")[round] >= least


class TestScreening:
    @pytest.mark.parametrize("protocol", ["parallel", "u-shaped"])
    def test_a_client_computes_and_sends_once_more(self, protocol: str, tiny: Maker, tmp_path: Path) -> None:
        # Averaging screens nobody out, so that both runs differ by the pass alone.
        preset = {"run": {"preset": "averaging", "rounds": 1}}
        plain = run_of(tiny, tmp_path / "plain", **preset, protocol={"name": protocol, "undo": "none"})
        screened = run_of(
            tiny,
            tmp_path / "screened",
            **preset,
            protocol={"name": protocol, "undo": "screen"},
            screening={"rule": "distance"},
        )
        samples = plain.column("participation", "num_samples")
        labels = 0 if protocol == "u-shaped" else 8
        more = samples * FORWARD_CLIENT / (1e9 * 0.002) + 8 * samples * (4 * 8 + labels) / 4e6 + 0.005
        one, other = (run.column("participation", "virtual_seconds") for run in (plain, screened))
        np.testing.assert_allclose(other - one, more, rtol=1e-9)

    def test_who_never_starts_sends_no_pass(self, tiny: Maker, tmp_path: Path) -> None:
        run = run_of(
            tiny,
            tmp_path,
            protocol={"name": "parallel", "undo": "screen"},
            screening={"rule": "distance"},
            faults={"rule": "random", "dropout_before": 0.5},
        )
        faults = run.column("participation", "fault")
        gone = faults == run.labels("participation", "fault").index("dropped-before")
        seconds = run.column("participation", "virtual_seconds")
        assert gone.any()
        assert (seconds[gone] == 0).all()
        assert (seconds[~gone] > 0).all()


def test_operations_by_hand() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    found = count_undo(split(module, "1", (6,)))
    assert (found.screened, found.replayed) == (2 * 6 * 4, 2 * 2 * 4 * 3 + 3 * 2 * 3 * 2)


@pytest.mark.parametrize(
    ("name", "shape", "vocabulary"),
    [
        ("digits-cnn", (1, 8, 8), 0),
        ("cifar-cnn", (3, 16, 16), 0),
        ("speech-gru", (1, 8, 12), 0),
        ("transformer-lm", (6,), 5),
    ],
)
def test_undoing_costs_less_than_training(name: str, shape: tuple[int, ...], vocabulary: int) -> None:
    module = models.parse({"name": name}).build(shape, 5)
    target = shape if vocabulary else ()
    for cut in cut_points(module):
        model = split(module, cut, shape, target_shape=target, vocabulary=vocabulary)
        halves, undo = count_halves(model), count_undo(model)
        assert 0 <= undo.screened <= halves.client
        assert halves.server / 2 <= undo.replayed <= halves.server


def test_a_clock_that_does_not_say_counts_no_time_of_servers() -> None:
    assert clocks.parse({}).server_seconds(1e12) == 0
    assert clocks.parse({"rule": "phones", "server_gflops": 50.0}).server_seconds(1e12) == 20
