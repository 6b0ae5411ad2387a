"""Rounds in which clients are lost: the method's identities hold, and every loss is on record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.made import PRESETS, as_bits, first_state, small_config, small_world

import hpcfsl
from hpcfsl.errors import UserError
from hpcfsl.fates import Fates, decide_fates, seconds_waited
from hpcfsl.faults import LOST, Fault
from hpcfsl.group import GroupStatus, exclude_and_sum, train_and_score
from hpcfsl.round import plan_round, run_round
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.digest import digest
from hpcfsl.trace.reader import Run

Maker = Callable[..., dict[str, dict[str, Any]]]
DROPOUTS = {"rule": "random", "dropout_before": 0.15, "dropout_during": 0.1, "dropout_after": 0.1}
ALL = {**DROPOUTS, "nan": 0.05, "infinity": 0.05, "huge": 0.05}
CLASS = {"gflops": 1e-3, "up_mbps": 0.1, "down_mbps": 1.0, "latency_ms": 1.0}
CLOCK = {
    "rule": "devices",
    "jitter": 0.5,
    "straggler_probability": 0.1,
    "deadline_seconds": 1.5,
    "classes": [{"name": "fast", "share": 0.5, **CLASS}, {"name": "slow", "share": 0.5, **CLASS, "up_mbps": 0.05}],
}


def run(tiny: Maker, out: Path, **sections: dict[str, Any]) -> Run:
    return hpcfsl.run(tiny(**sections), out=out)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    preset=st.sampled_from(PRESETS),
    reading=st.sampled_from(["model", "aggregation"]),
    before=st.sampled_from([0.0, 0.2, 0.5]),
    after=st.sampled_from([0.0, 0.2, 0.5]),
    deadline=st.sampled_from([0.0, 0.5, 1.5]),
    seed=st.integers(0, 1000),
)
def test_a_lost_client_has_no_part_in_its_group(
    preset: str, reading: str, before: float, after: float, deadline: float, seed: int
) -> None:
    faults = {"rule": "random", "dropout_before": before, "dropout_after": after}
    method = {"weights": {"reading": reading}, "threshold": {"scope": "group"}}
    lossy = small_world(
        small_config(preset, seed=seed, faults=faults, clock={**CLOCK, "deadline_seconds": deadline}, **method)
    )
    whole = small_world(small_config(preset, seed=seed, **method))
    state = first_state(lossy)
    for group, members in enumerate(plan_round(lossy, 0).groups):
        scored = train_and_score(lossy, state.weights, state.clients, group=group, members=members, round=0)
        summed = exclude_and_sum(lossy, scored, None)
        arrived = members[scored.fates.arrived]
        assert scored.first.clients.tolist() == arrived.tolist()
        if not len(arrived):
            assert summed.status == GroupStatus.EMPTY
            continue
        other = train_and_score(whole, state.weights, state.clients, group=group, members=arrived, round=0)
        wanted = exclude_and_sum(whole, other, None)
        assert as_bits(scored.uploads) == as_bits(other.uploads)
        assert as_bits(scored.scores.credit) == as_bits(other.scores.credit)
        assert (summed.exclusion.threshold, summed.status) == (wanted.exclusion.threshold, wanted.status)
        if len(arrived) < lossy.config.groups.min_survivors:
            assert summed.update is None
        if wanted.target is not None and summed.target is not None:
            assert as_bits(summed.target.factors) == as_bits(wanted.target.factors)
            assert summed.target.mass == wanted.target.mass
        if wanted.update is not None:
            assert as_bits(summed.update) == as_bits(wanted.update)


@pytest.mark.parametrize("reading", ["model", "aggregation"])
def test_what_is_remembered_of_a_lost_client_stays(reading: str) -> None:
    world = small_world(small_config(weights={"reading": reading}, faults={**DROPOUTS, "dropout_after": 0.3}))
    state, everybody, lost_once = first_state(world), np.arange(12), 0
    for round in range(4):
        before = {name: state.clients.look_up(name, everybody) for name in ("credit", "weight")}
        state, outcome = run_round(world, state, round, Stopwatch())
        fates = [group.scored.fates for group in outcome.groups]
        lost = np.sort(np.concatenate([each.clients[~each.arrived] for each in fates]))
        lost_once += len(lost)
        for name, values in before.items():
            np.testing.assert_array_equal(state.clients.look_up(name, lost), values[lost])
        assert not np.isnan(state.clients.look_up("first_round", everybody)).any()
    assert lost_once > 5


@pytest.mark.parametrize("kind", ["dropout_before", "dropout_during", "dropout_after"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_round_that_nobody_survives_does_not_move_the_model(
    preset: str, kind: str, tiny: Maker, tmp_path: Path
) -> None:
    found = run(tiny, tmp_path / "run", run={"preset": preset, "rounds": 2}, faults={"rule": "random", kind: 1.0})
    rounds, groups, rows = found.table("rounds"), found.table("group_rounds"), found.table("participation")
    assert rounds["moved"].tolist() == [0, 0]
    assert rounds["num_lost"].tolist() == rounds["num_participants"].tolist() == [12, 12]
    assert rounds["model_hash"][0] == rounds["model_hash"][1]
    assert np.isnan(rounds["train_loss"]).all()
    assert set(groups["status"].tolist()) == {GroupStatus.EMPTY}
    assert groups["num_lost"].tolist() == groups["num_clients"].tolist()
    names = found.labels("participation", "fault")
    assert {names[code] for code in rows["fault"].tolist()} == {kind.replace("dropout_", "dropped-")}
    assert {found.labels("participation", "status")[code] for code in rows["status"].tolist()} == {"lost"}
    assert len(found.table("clients")["client"]) == 12


@pytest.mark.parametrize("coordinates", ["one", "all"])
@pytest.mark.parametrize("kind", ["nan", "infinity", "huge"])
@pytest.mark.parametrize("preset", PRESETS)
def test_corrupt_uploads_at_every_preset(preset: str, kind: str, coordinates: str, tiny: Maker, tmp_path: Path) -> None:
    faults = {"rule": "random", kind: 0.2, "coordinates": coordinates}
    found = run(tiny, tmp_path / "run", run={"preset": preset, "rounds": 2}, faults=faults)
    rows = found.table("participation")
    first = rows["round"] == 0  # afterwards a model that took 1e30 makes updates that are not finite of itself
    broken = first & (rows["fault"] == Fault[kind.upper()])
    assert broken.any()
    assert np.isfinite(rows["norm"][first]).all()
    status = np.array(found.labels("participation", "status"))[rows["status"]]
    if kind == "huge":
        assert (rows["uploaded_norm"][broken] >= 0.99e30).all()
        assert np.isfinite(rows["credit_score"][first]).all()
        assert (status[broken] == "excluded").all() or preset != "hardened"
    else:
        assert (status[broken] == "non-finite").all()
        assert (rows["credit_score"][broken] == np.inf).all()
        assert found.table("rounds")["moved"].tolist() == [1, 1]
    assert (rows["bytes_model_up"][broken] > 0).all()
    assert np.isfinite(found.weights()).all()


def test_every_fault_is_on_record_and_rows_add_up(tiny: Maker, tmp_path: Path) -> None:
    found = run(tiny, tmp_path / "run", run={"rounds": 25}, faults=ALL, clock=CLOCK)
    rows, rounds, groups = (found.table(name) for name in ("participation", "rounds", "group_rounds"))
    assert set(rows["fault"].tolist()) == set(map(int, Fault))
    lost = np.isin(rows["fault"], LOST)
    assert (lost == (rows["status"] == 4)).all()
    np.testing.assert_array_equal(np.bincount(rows["round"][lost], minlength=25), rounds["num_lost"])
    total = groups["num_lost"] + groups["num_excluded"] + groups["num_survivors"]
    np.testing.assert_array_equal(total, groups["num_clients"])
    for name in ("credit_score", "loss_first", "loss_last", "norm", "uploaded_norm", "influence", "share", "weight"):
        assert np.isnan(rows[name][lost]).all(), name
    assert (rows["coefficient"][lost] == 0).all()
    assert np.isfinite(rows["virtual_seconds"]).all()
    late = rows["fault"] == Fault.LATE
    assert (rows["virtual_seconds"][late] > 1.5).all()
    assert (rows["virtual_seconds"][~lost] <= 1.5).all()
    np.testing.assert_allclose(rounds["virtual_time"], np.cumsum(rounds["virtual_seconds"]), rtol=1e-12)
    assert set(found.table("clients")["device_class"].tolist()) == {b"fast", b"slow"}
    up = sum(rows[name] for name in rows if name.startswith("bytes_") and name.endswith("_up"))
    across = np.bincount(groups["round"], groups["bytes_across_up"])
    np.testing.assert_array_equal(np.bincount(rows["round"], up) + across, rounds["bytes_up"])


def test_a_deadline_that_nobody_meets(tiny: Maker, tmp_path: Path) -> None:
    clock = {**CLOCK, "deadline_seconds": 1e-6, "server_latency_ms": 2.0}
    found = run(tiny, tmp_path / "run", clock=clock)
    rounds, rows = found.table("rounds"), found.table("participation")
    assert rounds["moved"].tolist() == [0] * 3
    assert (rows["fault"] == Fault.LATE).all()
    assert (rows["bytes_model_up"] > 0).all()
    # The deadline, and the way back from the root: no group had anything to send.
    down = 8 * found.table("group_rounds")["bytes_across_down"][0] / 1e9 + 0.002
    np.testing.assert_allclose(rounds["virtual_seconds"], 1e-6 + down, rtol=1e-12)


def test_virtual_time_of_a_run_by_hand(tiny: Maker, tmp_path: Path) -> None:
    clock = {
        "rule": "devices",
        "classes": [{"name": "only", "share": 1.0, "gflops": 0.5, "up_mbps": 2.0, "down_mbps": 8.0, "latency_ms": 3.0}],
        "server_gflops": 5.0,
        "server_mbps": 100.0,
        "server_latency_ms": 4.0,
    }
    found = run(tiny, tmp_path / "run", run={"rounds": 1}, clock=clock, training={"local_epochs": 2})
    rows = found.table("participation")
    # 16 inputs, 8 hidden, 4 classes, cut after the first layer's ReLU; 8 samples a step.
    passes, steps = 2 * rows["num_samples"], 2 * -(-rows["num_samples"] // 8)
    client = passes * (2 * 2 * 16 * 8) / 0.5e9
    server = passes * (3 * 2 * 8 * 4) / 5e9
    half = 4 * (16 * 8 + 8)
    up = 8 * (passes * (4 * 8 + 8) + half) / 2e6
    down = 8 * (passes * (4 * 8) + half) / 8e6
    wanted = client + server + up + down + (2 + 2 * steps) * 0.003
    np.testing.assert_allclose(rows["virtual_seconds"], wanted, rtol=1e-12, atol=0)
    across = 2 * (8 * 4 * (16 * 8 + 8 + 8 * 4 + 4) / 100e6 + 0.004)
    np.testing.assert_allclose(found.table("rounds")["virtual_seconds"], [wanted.max() + across], rtol=1e-12)


def test_how_long_a_server_waits() -> None:
    def fates(faults: list[Fault], seconds: list[float]) -> Fates:
        world = small_world(small_config())
        made = decide_fates(world, np.arange(len(faults)), 0)
        return Fates(**{**vars(made), "faults": np.array(faults, np.int8), "seconds": np.array(seconds)})

    inf = float("inf")
    assert seconds_waited(fates([Fault.NONE, Fault.NAN], [1.0, 2.0]), 5.0) == 2.0
    assert seconds_waited(fates([Fault.NONE, Fault.DROPPED_BEFORE], [1.0, 0.0]), 5.0) == 5.0
    assert seconds_waited(fates([Fault.NONE, Fault.LATE], [1.0, 9.0]), 5.0) == 5.0
    assert seconds_waited(fates([Fault.NONE, Fault.DROPPED_DURING], [1.0, 3.0]), inf) == 3.0
    assert seconds_waited(fates([Fault.DROPPED_BEFORE], [0.0]), inf) == 0.0


def test_without_faults_and_clock_nothing_is_lost_and_there_is_no_virtual_time(tiny: Maker, tmp_path: Path) -> None:
    found = run(tiny, tmp_path / "run")
    rounds, rows = found.table("rounds"), found.table("participation")
    assert rounds["num_lost"].tolist() == [0] * 3
    assert np.isnan(rounds["virtual_seconds"]).all()
    assert np.isnan(rounds["virtual_time"]).all()
    assert np.isnan(rows["virtual_seconds"]).all()
    assert not rows["fault"].any()
    assert set(found.table("clients")["device_class"].tolist()) == {b""}


def test_a_clock_alone_changes_no_result(tiny: Maker, tmp_path: Path) -> None:
    plain = run(tiny, tmp_path / "plain")
    timed = run(tiny, tmp_path / "timed", clock={**CLOCK, "deadline_seconds": 0.0})
    np.testing.assert_array_equal(plain.weights(), timed.weights())
    np.testing.assert_array_equal(
        plain.column("participation", "credit_score"), timed.column("participation", "credit_score")
    )


def test_the_same_digest_after_a_restart(tiny: Maker, tmp_path: Path) -> None:
    sections = {"faults": ALL, "clock": CLOCK, "threshold": {"rule": "mad", "scope": "memory", "window": 2}}
    run(tiny, tmp_path / "cut", run={"rounds": 3}, **sections)
    cut = run(tiny, tmp_path / "cut", run={"rounds": 6}, **sections)
    whole = run(tiny, tmp_path / "whole", run={"rounds": 6}, **sections)
    assert digest(cut) == digest(whole)
    np.testing.assert_array_equal(cut.column("rounds", "virtual_time"), whole.column("rounds", "virtual_time"))


def test_a_model_that_cannot_be_counted_is_refused_only_with_a_clock(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no formula")

    monkeypatch.setattr("hpcfsl.models.operations._count", refuse)
    run(tiny, tmp_path / "plain")
    with pytest.raises(UserError, match=r"clock\.rule = 'phones': torch cannot count the model's operations"):
        run(tiny, tmp_path / "timed", clock={"rule": "phones"})
