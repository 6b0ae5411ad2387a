from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from click.testing import CliRunner, Result

import hpcfsl
from hpcfsl.cli import main
from hpcfsl.config import resolve
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.homes import home_of
from hpcfsl.parallel.placement import place_groups
from hpcfsl.round import run_round
from hpcfsl.scaling import estimate as estimates
from hpcfsl.scaling.calibrate import read_rates, shipped_rates, write_rates
from hpcfsl.scaling.estimate import Request, estimate
from hpcfsl.scaling.memory import cached_bytes, predict_memory, shared_bytes
from hpcfsl.scaling.model import Prediction
from hpcfsl.scaling.screen import duration, parts, size
from hpcfsl.scaling.sizes import predict_sizes
from hpcfsl.scaling.vectors import ClientVectors, client_vectors
from hpcfsl.scaling.workload import of_world
from hpcfsl.state import initial_state
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.world import World, build_world

Tree = dict[str, dict[str, Any]]

FEW: Tree = {
    "run": {"rounds": 3, "device": "cpu"},
    "data": {"source": "synthetic", "shape": [8]},
    "partition": {"rule": "iid", "clients": 12},
    "model": {"name": "mlp", "hidden": [8]},
    "groups": {"number": 3},
}
UNEVEN_WITH_CLIENT_UPDATES: Tree = {
    "run": {"rounds": 12, "checkpoint_rounds": 5, "device": "cpu"},
    "data": {"source": "synthetic", "shape": [8], "samples": 2000},
    "partition": {"rule": "quantity", "clients": 100, "min_samples": 4},
    "model": {"name": "mlp", "hidden": [8]},
    "training": {"batch_size": 4},
    "groups": {"number": 8},
    "evaluation": {"clients_every": 2},
    "trace": {"updates": "client", "every": 3},
}
SOME_TAKE_PART_HALF_PRECISION: Tree = {
    "run": {"rounds": 20, "preset": "literal", "device": "cpu"},
    "data": {"source": "synthetic", "shape": [64], "samples": 6000},
    "partition": {"rule": "iid", "clients": 300},
    "participation": {"rule": "number", "clients": 60},
    "model": {"name": "mlp", "hidden": [100]},
    "groups": {"number": 6},
    "trace": {"dtype": "float16"},
}
V3: Tree = {"protocol": {"name": "splitfed-v3"}}
SCAFFOLD: Tree = {"training": {"drift": "scaffold"}}
CASES = [FEW, UNEVEN_WITH_CLIENT_UPDATES, SOME_TAKE_PART_HALF_PRECISION]


def world_of(tree: Tree) -> World:
    return build_world(resolve(tree), SerialCommunicator())


def changed(tree: Tree, **sections: dict[str, Any]) -> Tree:
    return {**tree, **{name: {**tree.get(name, {}), **values} for name, values in sections.items()}}


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(FEW))
    return path


class TestSizes:
    @pytest.mark.parametrize("tree", CASES, ids=["few", "client updates", "half precision"])
    def test_within_a_tenth_of_a_real_folder(self, tree: Tree, tmp_path: Path) -> None:
        hpcfsl.run(tree, out=tmp_path)
        found = predict_sizes(world_of(tree), 1)
        assert found.trace == pytest.approx(bytes_in(tmp_path / "trace"), rel=0.1)
        assert found.updates == pytest.approx(bytes_in(tmp_path / "updates"), rel=0.1)
        real = bytes_in(tmp_path / "trace") + bytes_in(tmp_path / "updates")
        assert found.trace + found.updates == pytest.approx(real, rel=0.1)
        left = bytes_in(tmp_path / "checkpoints") + bytes_in(tmp_path) - real - bytes_in(tmp_path / "checkpoints")
        assert found.checkpoints == pytest.approx(left, rel=0.2)

    def test_grows_with_rounds_as_many_as_are_too_long_to_try(self) -> None:
        short, long = (
            predict_sizes(world_of(changed(FEW, run={"rounds": rounds, "checkpoint_rounds": 10**6})), 1)
            for rounds in (20_000, 40_000)
        )
        assert long.trace == pytest.approx(2 * short.trace, rel=0.05)
        assert long.updates == pytest.approx(2 * short.updates, rel=0.05)

    def test_nothing_recorded_takes_nothing(self) -> None:
        assert predict_sizes(world_of(changed(FEW, trace={"updates": "none"})), 1).updates == 0

    @pytest.mark.parametrize("sections", [V3, SCAFFOLD], ids=["personal", "variates"])
    def test_checkpoints_have_what_stays_with_clients(self, sections: Tree, tmp_path: Path) -> None:
        tree = changed(FEW, model={"hidden": [200]}, trace={"updates": "none"}, **sections)
        hpcfsl.run(tree, out=tmp_path)
        real = bytes_in(tmp_path / "checkpoints")
        assert predict_sizes(world_of(tree), 1).checkpoints == pytest.approx(real, rel=0.1)


class TestMemory:
    def test_pooled_thresholds_hold_the_uploads_of_all_groups(self) -> None:
        held = {}
        for scope in ("pooled", "group"):
            world = world_of(changed(FEW, threshold={"scope": scope}))
            held[scope] = predict_memory(world, of_world(world), 1, predict_sizes(world, 1))["uploads"]
        assert held["pooled"] == pytest.approx(3 * held["group"])

    def test_more_ranks_hold_fewer_uploads(self) -> None:
        world = world_of(FEW)
        one, three = (
            predict_memory(world, of_world(world), ranks, predict_sizes(world, ranks))["uploads"] for ranks in (1, 3)
        )
        assert one == pytest.approx(3 * three)


def vectors_of(tree: Tree, ranks: int) -> ClientVectors:
    world = world_of(tree)
    return client_vectors(world, of_world(world), ranks)


class TestClientVectors:
    @pytest.mark.parametrize("ranks", [1, 2, 3, 5])
    def test_clients_are_those_of_the_trace(self, ranks: int, tmp_path: Path) -> None:
        tree = changed(FEW, **V3)
        run, found = hpcfsl.run(tree, out=tmp_path), vectors_of(tree, ranks)
        homes = np.bincount(home_of(run.table("clients")["client"].astype(np.int64), ranks), minlength=ranks)
        rows = {name: run.column("participation", name)[:12] for name in ("round", "client", "group", "num_samples")}
        assert set(rows["round"]) == {0}
        hosts = place_groups(np.bincount(rows["group"], rows["num_samples"]).astype(np.int64), ranks)[rows["group"]]
        strangers = home_of(rows["client"].astype(np.int64), ranks) != hosts
        guests = np.bincount(hosts[strangers], minlength=ranks)
        assert found.homes + found.guests == (homes + guests).max()
        assert (found.guests == 0) == (ranks == 1)

    @pytest.mark.parametrize(("sections", "params"), [(V3, 8 * 8 + 8), (SCAFFOLD, 162)], ids=["personal", "variates"])
    def test_bytes_are_those_of_a_rank_that_has_run(self, sections: Tree, params: int) -> None:
        world = world_of(changed(FEW, **sections, threshold={"rule": "none"}))  # the excluded have no variates
        state, _ = run_round(world, initial_state(world), 0, Stopwatch(60.0))
        (table,) = state.vectors.values()
        found = client_vectors(world, of_world(world), 1)
        assert found.memory_bytes == len(table) * table.width * 4 == 12 * params * 4
        assert (found.scratch_bytes, found.sent_bytes) == (0, 0)

    def test_memory_ends_at_the_budget_and_the_rest_is_in_scratch_files(self) -> None:
        row = 4 * (8 * 8 + 8)
        tree = changed(FEW, **V3, run={"client_state_mib": 5.5 * row / 2**20})
        found = vectors_of(tree, 1)
        assert (found.memory_bytes, found.scratch_bytes) == (5 * row, 7 * row)
        whole = estimate(resolve(tree), Request(measure=False))
        assert whole.memory["clients' vectors"] == 5 * row
        assert whole.scratch_bytes == 7 * row

    def test_data_in_mapped_files_takes_no_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros((20_000, 400), np.float32), y=np.arange(20_000) % 3)
        tree = {**FEW, "data": {"source": "npz", "file": str(tmp_path / "a.npz")}}
        world = world_of(changed(tree, run={"data_cache": str(tmp_path / "cache")}))
        assert cached_bytes(world.config.run.data_cache) == pytest.approx(20_000 * 1608, rel=0.01)
        assert shared_bytes(world) == 0
        assert (cached_bytes(""), cached_bytes(str(tmp_path / "other"))) == (0, 0)
        plain = world_of(tree)
        assert shared_bytes(plain) == 20_000 * 1608
        monkeypatch.setattr("hpcfsl.scaling.memory.resident_bytes", lambda: 10**9)
        for each, own in ((world, cached_bytes(world.config.run.data_cache)), (plain, 0)):
            found = predict_memory(each, of_world(each), 1, predict_sizes(each, 1))
            assert found["process and data"] == 10**9 - own

    def test_those_who_never_take_part_have_none(self) -> None:
        tree = changed(FEW, **V3, participation={"rule": "number", "clients": 6})
        assert vectors_of(tree, 1).homes == 12 * (1 - 0.5**3)

    def test_tested_clients_are_guests_too(self) -> None:
        tree = changed(FEW, **V3, groups={"number": 2}, participation={"rule": "number", "clients": 4})
        few = vectors_of(changed(tree, run={"rounds": 30}), 4)
        many = vectors_of(changed(tree, run={"rounds": 30}, evaluation={"clients_every": 1}), 4)
        assert few.guests <= 2
        assert many.guests == pytest.approx(12 / 4 * 3 / 4, rel=0.01)

    def test_nothing_stays_with_clients_of_most_runs(self) -> None:
        assert vectors_of(FEW, 3) == ClientVectors()
        found = estimate(resolve(FEW), Request(measure=False))
        assert found.memory["clients' vectors"] == found.memory.get("drifts", 0.0) == 0

    def test_training_holds_a_start_or_a_drift_for_each_client_of_a_group(self) -> None:
        for sections, name in ((V3, "clients' starts"), (SCAFFOLD, "drifts")):
            world = world_of(changed(FEW, model={"hidden": [4000]}, **sections))
            work = of_world(world)
            memory = predict_memory(world, work, 1, predict_sizes(world, 1))
            assert memory[name] == 4 * work.params * 4  # groups of four


class TestWorkload:
    def test_counts_of_a_round(self) -> None:
        world = world_of(FEW)
        work = of_world(world)
        assert (work.groups, int(work.clients.sum())) == (3, 12)
        assert work.params == world.model.layout.size == 8 * 8 + 8 + 8 * 10 + 10
        assert work.sample_flops == 2 * (8 * 8 + 8 * 10)
        assert int(work.samples.sum()) == int(world.population.train_counts(np.arange(12)).sum())
        assert work.pooled
        assert work.vectors == 4

    def test_a_budget_moves_waiting_uploads_to_a_scratch_file(self) -> None:
        tree = changed(FEW, run={"hold_mib": 0.001})
        held, spilled = estimate(resolve(FEW), Request(measure=False)), estimate(resolve(tree), Request(measure=False))
        assert held.scratch_bytes == 0
        assert spilled.scratch_bytes == 12 * 162 * 4 - 0.001 * 2**20
        assert spilled.round.seconds > held.round.seconds

    @pytest.mark.parametrize(
        ("rule", "kind"),
        [("weighted", "weighted"), ("centred-clipping", "distances"), ("coordinate-median", "median")],
    )
    def test_what_a_rule_looks_at(self, rule: str, kind: str) -> None:
        tree = {**FEW, "global_aggregation": {"rule": rule}}
        assert of_world(world_of(tree)).rule == kind


class TestEstimate:
    def test_time_of_a_real_run(self, tmp_path: Path) -> None:
        tree = changed(FEW, run={"rounds": 30}, data={"samples": 6000})
        found = estimate(resolve(tree), Request())
        real = float(hpcfsl.run(tree, out=tmp_path).column("rounds", "seconds")[5:].mean())
        # Wide, because tests share their machine; docs/scaling.md has what was measured on a quiet one.
        assert real / 8 < found.round.seconds < real * 8

    def test_bytes_of_simulated_traffic_are_those_of_a_real_round(self, tmp_path: Path) -> None:
        found = estimate(resolve(FEW), Request(measure=False))
        run = hpcfsl.run(FEW, out=tmp_path)
        assert found.simulated_bytes["up"] == run.column("rounds", "bytes_up")[0]
        assert found.simulated_bytes["down"] == run.column("rounds", "bytes_down")[0]

    @pytest.mark.parametrize(
        "sections",
        [
            {},
            {"protocol": {"name": "splitfed-v1", "device_cuts": [{"device_class": "slow-phone", "cut": "relu2"}]}},
            {"protocol": {"name": "u-shaped"}, "training": {"local_epochs": 3}},
            {"protocol": {"name": "splitfed-v3"}, "compression": {"rule": "int8"}},
            {"training": {"drift": "scaffold", "batch_size": 7}, "groups": {"number": 4}},
        ],
        ids=["plain", "device cuts", "u-shaped", "compressed", "scaffold"],
    )
    def test_traffic_is_that_of_the_trace_by_kind(self, sections: Tree, tmp_path: Path) -> None:
        tree = changed(FEW, run={"rounds": 1}, model={"hidden": [8, 5]}, clock={"rule": "phones"}, **sections)
        found, run = estimate(resolve(tree), Request(measure=False)), hpcfsl.run(tree, out=tmp_path)
        for kind, count in found.traffic.items():
            table = "group_rounds" if kind.startswith("across") else "participation"
            assert run.column(table, f"bytes_{kind}").sum() == count, kind
        assert found.simulated_bytes["up"] == run.column("rounds", "bytes_up")[0]
        assert found.simulated_bytes["down"] == run.column("rounds", "bytes_down")[0]
        cuts, counts = np.unique(run.table("clients")["cut"], return_counts=True)
        assert found.cuts == dict(zip([cut.decode() for cut in cuts], counts.tolist(), strict=True))
        assert (len(found.cuts) == 2) == ("device_cuts" in sections.get("protocol", {}))

    def test_one_rank_sends_nothing_and_more_send_more(self) -> None:
        sent = [
            sum(estimate(resolve(FEW), Request(measure=False, ranks=ranks)).network_bytes.values())
            for ranks in (1, 2, 3)
        ]
        assert sent[0] == 0 < sent[1] < sent[2]

    def test_ranks_of_a_cluster_have_a_core_each_and_a_network_between_nodes(self) -> None:
        tree = changed(FEW, model={"hidden": [4000]}, groups={"number": 12})
        request = Request(measure=False, gflops=0.01, ranks=12)
        here, spread = (estimate(resolve(tree), each) for each in (request, replace(request, ranks_per_node=1)))
        assert spread.round.terms["compute"] < here.round.terms["compute"]
        assert spread.cluster.nodes == 12
        assert spread.round.terms["reduction"] > 0

    def test_a_faster_core_takes_less(self) -> None:
        times = [estimate(resolve(FEW), Request(measure=False, gflops=speed)).seconds for speed in (0.001, 1.0)]
        assert times[0] > times[1]

    def test_warns_of_what_does_not_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(estimates, "available_bytes", lambda: 1000)
        monkeypatch.setattr(estimates.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
        warnings = estimate(resolve(FEW), Request(measure=False, ranks=5000)).warnings
        assert any("free" in text for text in warnings)
        assert any("left" in text for text in warnings)
        assert any("4997 of 5000 ranks get no group" in text for text in warnings)
        assert any("share" in text for text in warnings)

    def test_warns_of_a_group_that_outlasts_the_deadline(self) -> None:
        tree = changed(FEW, run={"deadline_seconds": 0.001})
        warnings = estimate(resolve(tree), Request(measure=False, gflops=1e-6)).warnings
        assert any("run.deadline_seconds" in text for text in warnings)


class TestCommand:
    def test_fits_one_screen_and_names_everything(self, config: Path) -> None:
        result = call("estimate", config, "--ranks", "2", "--no-measure")
        assert result.exit_code == 0, result.output
        assert len(result.stdout.splitlines()) < 30
        assert max(map(len, result.stdout.splitlines())) <= 100
        for word in ("time", "memory of a rank", "run folder", "sent by a rank", "simulated traffic", "3 rounds"):
            assert word in result.stdout

    def test_as_json(self, config: Path) -> None:
        result = call("estimate", config, "--json", "--set", "run.rounds=7", "--ranks-per-node", "1", "--ranks", "2")
        tree = json.loads(result.stdout)
        assert tree["rounds"] == 7
        assert tree["seconds"] == pytest.approx(7 * tree["round_seconds"])
        assert tree["memory_bytes"] == pytest.approx(sum(tree["memory"].values()))
        assert tree["cluster"]["ranks_per_node"] == 1

    def test_a_mistake_is_one_line(self, config: Path) -> None:
        result = call("estimate", config, "--set", "groups.number=99")
        assert result.exit_code == 2
        assert "groups.number = 99" in result.stderr


class TestScreen:
    def test_traffic_by_kind_and_cuts(self, tmp_path: Path) -> None:
        cuts = [{"device_class": "slow-phone", "cut": "linear1"}]
        tree = changed(FEW, clock={"rule": "phones"}, protocol={"name": "splitfed-v1", "device_cuts": cuts})
        (tmp_path / "c.toml").write_text(tomli_w.dumps(tree))
        shown = " ".join(call("estimate", tmp_path / "c.toml", "--no-measure").stdout.split())
        assert "smashed up" in shown
        assert "gradients down" in shown
        assert "clients at linear1" in shown

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0123, "12.3 ms"), (1.5, "1.5 s"), (600, "10 min"), (8000, "2.22 h"), (200_000, "2.31 days")],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text

    def test_parts_leave_out_what_does_not_count(self) -> None:
        assert parts({"small": 1.0, "large": 900.0, "middle": 100.0}, size) == "large 900 B, middle 100 B"


def test_rates_survive_their_file() -> None:
    rates = shipped_rates()
    assert read_rates(write_rates(rates)) == rates
    assert all(value >= 0 for value in rates.seconds.values())


def test_the_dominant_cause_is_the_largest() -> None:
    found = Prediction(stages={"train": 3.0}, terms={"compute": 1.0, "reduction": 2.0})
    assert found.dominant == "reduction"
