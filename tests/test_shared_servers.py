"""Groups that share a server half, in the round: identities, what is undone, what is recorded, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.made import first_state, small_world

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.group import ScoredGroup, SummedGroup, exclude_and_sum, train_and_score
from hpcfsl.round import plan_round
from hpcfsl.trace.digest import digest
from hpcfsl.world import World

Maker = Callable[..., dict[str, dict[str, Any]]]
SHARED = ("parallel", "splitfed-v2", "u-shaped")
FLIP = {"attack": "label-flip", "clients": 3}


def world_of(tiny: Maker, **sections: dict[str, Any]) -> World:
    sections = {"model": {"hidden": [8, 6]}, "training": {"batch_size": 8, "local_epochs": 2}, **sections}
    return small_world(resolve(tiny(**sections)))


def first_groups(world: World) -> list[tuple[ScoredGroup, SummedGroup]]:
    """Return the groups of the first round after scoring, and after the sum."""
    state, found = first_state(world), []
    for group, members in enumerate(plan_round(world, 0).groups):
        scored = train_and_score(world, state.weights, state.clients, group=group, members=members, round=0)
        found.append((scored, exclude_and_sum(world, scored, None)))
    return found


@pytest.mark.parametrize("protocol", SHARED)
def test_with_one_client_a_group_a_shared_server_half_is_a_copy(protocol: str, tiny: Maker, tmp_path: Path) -> None:
    alone = {"run": {"preset": "averaging"}, "groups": {"number": 12}, "model": {"hidden": [8, 6]}}
    copies = hpcfsl.run(tiny(**alone), out=tmp_path / "copies")
    shared = hpcfsl.run(tiny(**alone, protocol={"name": protocol}), out=tmp_path / "shared")
    np.testing.assert_allclose(shared.column("rounds", "test_loss"), copies.column("rounds", "test_loss"), rtol=1e-5)
    np.testing.assert_allclose(shared.column("rounds", "train_loss"), copies.column("rounds", "train_loss"), rtol=1e-5)


@pytest.mark.parametrize("protocol", SHARED)
@pytest.mark.parametrize("preset", ["hardened", "literal"])
def test_an_excluded_client_has_taught_the_server_half_nothing(protocol: str, preset: str, tiny: Maker) -> None:
    # NaN in what one client uploads excludes it; its session was ordinary, and is not in the group's update.
    nan = {"rule": "random", "nan": 0.3, "coordinates": "one"}
    world = world_of(tiny, run={"preset": preset}, protocol={"name": protocol, "undo": "replay"}, faults=nan)
    undone = 0
    for scored, summed in first_groups(world):
        kept = summed.exclusion.kept
        if summed.update is None or kept.all():
            continue
        assert scored.session is not None
        share = scored.first.samples[kept] / scored.first.samples[kept].sum()
        scales = np.full(len(kept), np.nan)
        scales[kept] = summed.target.factors / share
        wanted = world.executor.replay(scored.session, scales)
        server = world.model.layout.server_half(summed.update)
        assert torch.equal(server, wanted.displacement)
        assert summed.replayed == wanted.samples == 2 * scored.first.samples[kept].sum()
        assert not torch.allclose(server, scored.session.displacement)
        undone += 1
    assert undone


@pytest.mark.parametrize("protocol", SHARED)
def test_where_everybody_is_kept_and_counts_plainly_nothing_is_replayed(protocol: str, tiny: Maker) -> None:
    world = world_of(tiny, run={"preset": "averaging"}, protocol={"name": protocol, "undo": "replay"})
    for scored, summed in first_groups(world):
        assert summed.replayed == 0
        assert torch.equal(world.model.layout.server_half(summed.update), scored.session.displacement)


@pytest.mark.parametrize("protocol", SHARED)
def test_with_plain_averaging_client_parts_are_the_weighted_sum(protocol: str, tiny: Maker) -> None:
    world = world_of(tiny, run={"preset": "averaging"}, protocol={"name": protocol})
    cut = world.model.layout.client_size
    for scored, summed in first_groups(world):
        share = torch.from_numpy(scored.first.samples / scored.first.samples.sum()).float()
        torch.testing.assert_close(summed.update[:cut], share @ scored.uploads[:, :cut])
        if protocol != "splitfed-v2":  # there the server half takes every client's steps, one after the other
            torch.testing.assert_close(summed.update, share @ scored.uploads, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("protocol", SHARED)
def test_with_clipped_steps_huge_smashed_data_end_nobodys_training(protocol: str, tiny: Maker, tmp_path: Path) -> None:
    run = hpcfsl.run(
        tiny(
            run={"rounds": 6, "preset": "hardened"},
            groups={"number": 2},
            model={"hidden": [8, 6]},
            protocol={"name": protocol},
            training={"batch_size": 8, "clip_norm": 1.0},
            threat={"attack": "smashed-non-finite", "value": "huge", "clients": 2},
        ),
        out=tmp_path / "run",
    )
    loss = run.column("rounds", "test_loss")
    assert run.column("rounds", "moved").all()
    assert (np.diff(loss) < 0).all()


@pytest.mark.parametrize("protocol", SHARED)
def test_the_server_knows_its_own_part_of_what_an_attacker_forges(protocol: str, tiny: Maker) -> None:
    honest = world_of(tiny, protocol={"name": protocol})
    forged = world_of(tiny, protocol={"name": protocol}, threat={"attack": "sign-flip", "clients": 6, "scale": 2.0})
    cut, seen = honest.model.layout.client_size, 0
    for (one, _), (other, _) in zip(first_groups(honest), first_groups(forged), strict=True):
        assert torch.equal(one.uploads[:, cut:], other.uploads[:, cut:])
        bad = torch.from_numpy(other.attackers)
        assert torch.equal(other.uploads[bad, :cut], -2.0 * one.uploads[bad, :cut])
        np.testing.assert_array_equal(one.true_norms, other.true_norms)
        np.testing.assert_allclose(other.norms, np.linalg.norm(other.uploads.numpy().astype(float), axis=1))
        seen += int(bad.sum())
    assert seen == 6


def test_clips_and_noise_are_on_what_is_sent(tiny: Maker) -> None:
    gaussian = {"rule": "gaussian", "clip": 0.01, "noise_multiplier": 0.0}
    plain, world = (
        world_of(tiny, protocol={"name": "parallel"}),
        world_of(tiny, protocol={"name": "parallel"}, perturbation=gaussian),
    )
    cut = world.model.layout.client_size
    for (one, _), (other, _) in zip(first_groups(plain), first_groups(world), strict=True):
        assert torch.equal(one.uploads[:, cut:], other.uploads[:, cut:])
        np.testing.assert_allclose(np.linalg.norm(other.uploads[:, :cut].numpy(), axis=1), 0.01, rtol=1e-5)


@pytest.mark.parametrize("protocol", SHARED)
def test_a_lost_client_leaves_no_trace_in_the_shared_half(protocol: str, tiny: Maker) -> None:
    lossy = world_of(tiny, protocol={"name": protocol}, faults={"rule": "random", "dropout_during": 0.4})
    whole, lost = world_of(tiny, protocol={"name": protocol}), 0
    state = first_state(whole)
    for scored, summed in first_groups(lossy):
        arrived = scored.first.clients
        if not len(arrived):
            continue
        again = train_and_score(whole, state.weights, state.clients, group=0, members=arrived, round=0)
        assert torch.equal(scored.session.displacement, again.session.displacement)
        wanted = exclude_and_sum(whole, again, None).update
        assert summed.update is None or torch.equal(summed.update, wanted)
        lost += len(scored.fates.clients) - len(arrived)
    assert lost


@pytest.mark.parametrize("protocol", SHARED)
def test_waiting_in_a_scratch_file_changes_no_bit(protocol: str, tiny: Maker, tmp_path: Path) -> None:
    tree = {"protocol": {"name": protocol, "undo": "replay"}, "threat": FLIP, "model": {"hidden": [8, 6]}}
    memory = hpcfsl.run(tiny(**tree), out=tmp_path / "memory")
    disk = hpcfsl.run(tiny(**tree, run={"hold_mib": 0.0}), out=tmp_path / "disk")
    assert digest(memory) == digest(disk)
    assert memory.column("group_rounds", "num_replayed").sum() > 0
    assert "undo" in {memory.labels("timings", "phase")[code] for code in memory.column("timings", "phase")}


@pytest.mark.parametrize("protocol", SHARED)
def test_screened_clients_are_excluded_and_on_record(protocol: str, tiny: Maker, tmp_path: Path) -> None:
    run = hpcfsl.run(
        tiny(
            model={"hidden": [8, 6]},
            protocol={"name": protocol, "undo": "screen"},
            screening={"rule": "distance"},
            threat={"attack": "non-finite", "clients": 2},
            data={"noise": 0.2},
        ),
        out=tmp_path / "run",
    )
    status, flags = run.column("participation", "status"), run.labels("participation", "status")
    out = np.isin(status, [flags.index(name) for name in ("screened", "excluded", "non-finite")])
    assert run.column("rounds", "num_excluded").sum() == out.sum() == run.column("group_rounds", "num_excluded").sum()
    assert (run.column("participation", "coefficient")[status == flags.index("screened")] == 0).all()
    assert run.column("group_rounds", "num_replayed").sum() == 0


def test_turns_take_as_long_as_all_before_them(tiny: Maker, tmp_path: Path) -> None:
    tree = {"clock": {"rule": "homes"}, "model": {"hidden": [8, 6]}, "run": {"rounds": 1}}
    together = hpcfsl.run(tiny(**tree, protocol={"name": "parallel"}), out=tmp_path / "together")
    in_turn = hpcfsl.run(tiny(**tree, protocol={"name": "splitfed-v2"}), out=tmp_path / "turns")
    one, other = (run.column("participation", "virtual_seconds") for run in (together, in_turn))
    groups = in_turn.column("participation", "group")
    for group in np.unique(groups):
        np.testing.assert_allclose(other[groups == group].max(), one[groups == group].sum())


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"protocol": {"name": "parallel", "undo": "none"}}, "protocol.undo"),
        ({"protocol": {"name": "parallel", "undo": "screen"}, "screening": {"rule": "none"}}, "screening.rule"),
        ({"protocol": {"name": "u-shaped"}, "screening": {"rule": "none"}}, "screening.rule"),
        ({"protocol": {"name": "u-shaped", "undo": "none"}}, "protocol.undo"),
        ({"protocol": {"name": "parallel"}, "training": {"drift": "scaffold"}}, "training.drift"),
        ({"protocol": {"name": "fedavg", "undo": "none"}}, "protocol.undo"),
        *(({"protocol": {"name": name}, "model": {"cut": "none"}}, "model.cut") for name in SHARED),
    ],
)
def test_settings_that_cannot_work_together(sections: dict[str, Any], key: str, tiny: Maker) -> None:
    with pytest.raises(ConfigError, match=key):
        resolve(tiny(**sections))


@pytest.mark.parametrize("protocol", SHARED)
@pytest.mark.parametrize("preset", ["hardened", "literal", "averaging"])
def test_what_is_undone_by_default(preset: str, protocol: str, tiny: Maker) -> None:
    # Without labels a replay repeats the gradients of the first training: the server screens there.
    undo = "none" if preset == "averaging" else "screen" if protocol == "u-shaped" else "replay"
    config = resolve(tiny(run={"preset": preset}, protocol={"name": protocol}))
    assert config.protocol.undoes == undo
    assert config.screening.rule == ("distance" if undo == "screen" else "none")
    assert resolve(config.tree()) == config
    assert resolve(tiny(run={"preset": preset}, protocol={"name": "splitfed-v1"})).protocol.undoes == "none"
    assert resolve(tiny(run={"preset": "literal"}, protocol={"name": protocol, "undo": "none"}))


@pytest.mark.parametrize("protocol", SHARED)
def test_whoever_screens_has_a_rule(protocol: str, tiny: Maker) -> None:
    screened = {"name": protocol, "undo": "screen"}
    assert resolve(tiny(protocol=screened)).screening.rule == "distance"
    assert resolve(tiny(protocol=screened, screening={"k": 2.0})).screening.k == 2.0
    assert resolve(tiny(protocol={"name": protocol, "undo": "replay"})).screening.rule == "none"


@pytest.mark.parametrize(
    ("model", "protocol", "key"),
    [
        ({"hidden": [8]}, {}, "model.cut"),
        ({"hidden": [8, 6], "cut": "none"}, {}, "model.cut"),
        ({"hidden": [8, 6]}, {"tail": "linear1"}, "protocol.tail"),
        ({"hidden": [8, 6]}, {"tail": "linear3"}, "protocol.tail"),
    ],
)
def test_where_there_is_no_second_cut(model: dict[str, Any], protocol: dict[str, Any], key: str, tiny: Maker) -> None:
    with pytest.raises(UserError, match=key):
        small_world(resolve(tiny(model=model, protocol={"name": "u-shaped", **protocol})))
