"""What stays with clients from round to round: personal parts and control variates, against written-out loops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.keeping import SCAFFOLD, SOME, V3, loop_of, own_rows, run_rounds
from support.made import as_bits, first_state, make_scored, small_config, small_world
from support.ranks import ThreadCommunicator, on_ranks

import hpcfsl
from hpcfsl import simulation
from hpcfsl.config import Config, resolve
from hpcfsl.display import print_summary
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.evaluation import measure_own
from hpcfsl.group import GroupStatus
from hpcfsl.keeping import Keeping
from hpcfsl.models.split import SplitModel
from hpcfsl.parallel.communicator import Communicator
from hpcfsl.parallel.homes import home_of
from hpcfsl.parallel.vectors import HostedVectors
from hpcfsl.personal import PersonalParts
from hpcfsl.round import run_round
from hpcfsl.simulation import simulate
from hpcfsl.state import PERSONAL, VARIATE, State
from hpcfsl.stopwatch import Stopwatch
from hpcfsl.trace.digest import digest
from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.inspect import summary
from hpcfsl.training.evaluation import evaluate
from hpcfsl.training.updates import LocalData
from hpcfsl.world import World

Maker = Callable[..., dict[str, dict[str, Any]]]


@pytest.mark.parametrize("executor", ["native", "stacked", "one-by-one"])
@pytest.mark.parametrize(
    "sections",
    [
        {"protocol": V3, "training": {"batch_size": 4}},
        {"protocol": {"name": "splitfed-v1", "personal": ["linear1"]}, "training": SCAFFOLD},
        {"protocol": {"name": "fedavg", "personal": ["linear3"]}, "training": {"batch_size": 4, "proximal": 0.5}},
        {"protocol": {"name": "fedavg"}, "training": SCAFFOLD},
        {"protocol": {"name": "splitfed-v1"}, "training": SCAFFOLD},
        {"protocol": V3, "training": SCAFFOLD},
    ],
    ids=["v3", "v1-personal-scaffold", "fedavg-head", "fedavg-scaffold", "v1-scaffold", "v3-scaffold"],
)
def test_rounds_equal_the_written_out_loop(sections: dict[str, dict[str, Any]], executor: str) -> None:
    training = {**sections["training"], "executor": executor}
    world = small_world(small_config("averaging", **{**SOME, **sections, "training": training}))
    loop, (state, _) = loop_of(world), run_rounds(world, 4)
    for round in range(4):
        loop.round(round)
    np.testing.assert_allclose(state.weights, loop.weights, rtol=1e-3, atol=2e-6)
    if world.personal.size:
        found = own_rows(state, PERSONAL)
        assert sorted(found) == sorted(loop.parts)
        for client, part in found.items():
            np.testing.assert_allclose(part, loop.parts[client], rtol=1e-3, atol=2e-6)
        assert max(float((part - loop.initial).abs().max()) for part in found.values()) > 1e-2
    if world.config.training.drift == "scaffold":
        found = own_rows(state, VARIATE)
        assert state.variate is not None
        np.testing.assert_allclose(state.variate, loop.common, rtol=1e-3, atol=1e-5)
        assert sorted(found) == sorted(loop.variates)
        for client, variate in found.items():
            np.testing.assert_allclose(variate, loop.variates[client], rtol=1e-3, atol=2e-4)
        # c is the mean of all c_i, those of clients that never trained being 0.
        mean = torch.stack(list(found.values())).sum(dim=0) / world.population.num_clients
        np.testing.assert_allclose(state.variate, mean, rtol=1e-3, atol=1e-5)


def test_v3_is_v1_with_all_layers_of_the_client_half_personal() -> None:
    worlds = [
        small_world(small_config(protocol=each)) for each in (V3, {"name": "splitfed-v1", "personal": ["linear1"]})
    ]
    (one, _), (other, _) = (run_rounds(world, 3) for world in worlds)
    assert as_bits(one.weights) == as_bits(other.weights)
    assert own_rows(one, PERSONAL).keys() == own_rows(other, PERSONAL).keys()


@pytest.mark.parametrize(
    ("protocol", "plain"),
    [
        (V3, "splitfed-v1"),
        ({"name": "fedavg", "personal": ["linear3"]}, "fedavg"),
        ({"name": "u-shaped", "personal": ["linear3"]}, "u-shaped"),
    ],
)
def test_the_first_round_is_that_without_personal_parts(protocol: dict[str, Any], plain: str) -> None:
    # All start alike: what is shared moves alike, and the average of the parts is the averaged part.
    worlds = [small_world(small_config("averaging", protocol=each)) for each in (protocol, {"name": plain})]
    (one, _), (other, _) = (run_rounds(world, 1) for world in worlds)
    part = worlds[0].personal
    assert 0 < part.size < worlds[0].model.layout.size
    assert as_bits(part.take_rest(one.weights)) == as_bits(part.take_rest(other.weights))
    np.testing.assert_allclose(part.take(one.weights), part.take(other.weights), rtol=1e-5, atol=1e-7)
    # In the second round each trains from its own.
    later = [run_rounds(world, 2)[0].weights for world in worlds]
    assert float((part.take(later[0]) - part.take(later[1])).abs().max()) > 1e-4


def test_bytes_by_hand() -> None:
    # The model: 6 x 8 + 8 numbers before the cut, 8 x 5 + 5 and 5 x 3 + 3 after it. Smashed data: 8 numbers a sample.
    client, server, samples = 56, 63, np.array([5, 20])
    cases: list[tuple[dict[str, Any], str, int, int]] = [
        (V3, "none", 0, server),
        ({"name": "splitfed-v1", "personal": ["linear1"]}, "none", 0, server),
        ({"name": "fedavg", "personal": ["linear3"]}, "none", client + 45, client + 45),
        ({"name": "splitfed-v1"}, "scaffold", client, client + server),
        ({"name": "fedavg"}, "scaffold", client + server, client + server),
        (V3, "scaffold", 0, server),
    ]
    for protocol, drift, held, all_shared in cases:
        world = small_world(small_config(protocol=protocol, training={"batch_size": 4, "drift": drift}))
        wire, times = world.wire_bytes(samples), 2 if drift == "scaffold" else 1
        assert wire.model_up.tolist() == [4 * held] * 2
        assert wire.model_down.tolist() == [4 * held * times] * 2
        assert world.across_bytes() == 4 * all_shared * times
        assert wire.smashed_up.tolist() == ([0, 0] if protocol["name"] == "fedavg" else (samples * 8 * 4).tolist())


def test_nothing_personal_is_uploaded_scored_or_noisy() -> None:
    config = small_config(
        protocol=V3,
        perturbation={"rule": "gaussian", "noise_multiplier": 0.1},
        threat={"attack": "sign-flip", "clients": 3},
        faults={"rule": "random", "huge": 0.2, "coordinates": "one"},
    )
    world, uploads = small_world(config), []

    def look(group: Any) -> None:
        uploads.append(group.scored.uploads.clone())
        server = world.model.layout.server_half(group.scored.uploads).double()
        np.testing.assert_allclose(group.scored.lengths, server.norm(dim=1), rtol=1e-6)
        if group.update is not None:
            assert (world.personal.take(group.update) == 0).all()

    state = first_state(world)
    for round in range(2):
        state, outcome = run_round(world, state, round, Stopwatch(), look)
        assert outcome.update is not None
        assert (world.personal.take(outcome.update) == 0).all()
        assert (world.personal.take(state.last_update) == 0).all()
    assert all((world.personal.take(each) == 0).all() and each.abs().sum() > 0 for each in uploads)
    # The aggregator's bound and the noise are those of the parameters that are sent.
    sizes = [float(row.norm()) for each in uploads for row in world.personal.take_rest(each)]
    assert max(sizes) <= config.perturbation.bound(world.personal.rest_size) * (1 + 1e-6)  # type: ignore[operator]


def test_an_excluded_client_keeps_its_own_part_and_its_old_variate() -> None:
    config = small_config(protocol=V3, training=SCAFFOLD, threat={"attack": "sign-flip", "scale": 20.0, "clients": 2})
    world = small_world(config)
    state, excluded, spared = first_state(world), 0, 0
    for round in range(3):
        before = {name: own_rows(state, name) for name in (PERSONAL, VARIATE)}
        state, outcome = run_round(world, state, round, Stopwatch())
        for group in outcome.groups:
            kept = group.exclusion.kept & (group.status == GroupStatus.USED)
            for client, stays in zip(group.scored.first.clients.tolist(), kept, strict=True):
                parts, variates = own_rows(state, PERSONAL), own_rows(state, VARIATE)
                assert not torch.equal(parts[client], before[PERSONAL].get(client, torch.zeros(0)))
                unmoved = as_bits(variates.get(client, torch.zeros(0))) == as_bits(
                    before[VARIATE].get(client, torch.zeros(0))
                )
                assert unmoved == (not stays)
                excluded, spared = excluded + (not stays), spared + bool(stays)
    assert excluded
    assert spared


def test_a_client_is_tested_with_its_own_part_and_a_stranger_with_the_average() -> None:
    world = small_world(small_config("averaging", protocol=V3, partition={"rule": "iid", "clients": 12}, **SOME))
    state, _ = run_rounds(world, 1)
    own, everybody = own_rows(state, PERSONAL), np.arange(12)
    assert 0 < len(own) < 12
    _, rows = measure_own(world, state.weights, everybody, state.vectors[PERSONAL])
    _, averaged = measure_own(world, state.weights, everybody)
    for row, client in enumerate(rows["client"].tolist()):
        weights = state.weights.clone()
        if client in own:
            world.personal.put(weights, own[client])
        inputs, targets = world.feed.clients_test(np.array([client]))
        correct, loss = evaluate(world.model, weights, torch.from_numpy(inputs), torch.from_numpy(targets))
        assert rows["num_correct"][row] == correct
        assert rows["loss"][row] == pytest.approx(loss / len(targets))
        # A stranger's is that of the averaged part.
        same = rows["loss"][row] == pytest.approx(averaged["loss"][row], rel=1e-6)
        assert same == (client not in own)


def test_the_average_is_over_the_clients_of_the_round_by_samples() -> None:
    world = small_world(small_config("averaging", protocol=V3, **SOME))
    state, outcomes = run_rounds(world, 2)
    clients = np.sort(np.concatenate(outcomes[-1].plan.groups))
    samples = world.population.train_counts(clients)
    parts = torch.from_numpy(state.vectors[PERSONAL].rows(clients)).double()
    wanted = (parts * torch.from_numpy(samples / samples.sum())[:, None]).sum(dim=0)
    np.testing.assert_allclose(world.personal.take(state.weights), wanted, rtol=1e-5, atol=1e-7)
    # Nothing is trained from it: other numbers there change no client.
    spoilt = first_state(world)
    world.personal.put(spoilt.weights, 7.0)
    other, _ = run_round(world, spoilt, 0, Stopwatch())
    fresh, _ = run_round(world, first_state(world), 0, Stopwatch())
    assert as_bits(other.weights) == as_bits(fresh.weights)


def test_a_part_that_is_not_finite_is_not_kept() -> None:
    world = small_world(small_config(protocol=V3))
    state = first_state(world)
    parts = PersonalParts(world, HostedVectors(state.vectors[PERSONAL], world.communicator))
    clients = np.array([2, 5, 8])
    starts = parts.starts(state.weights, clients)
    first = make_scored(world.config, np.ones((3, len(state.weights))), [1, 1, 3], clients=clients).first
    first.updates[1, 0] = np.nan  # the first parameters are personal
    parts.keep(first, starts)
    assert (world.personal.take(first.updates) == 0).all()
    own = own_rows(state, PERSONAL)
    assert sorted(own) == [2, 8]
    assert torch.equal(own[8], world.personal.take(starts[2]) + 1)
    np.testing.assert_allclose(world.personal.take(parts.average(state.weights, 3)), own[8], rtol=1e-6)
    assert torch.equal(parts.starts(state.weights, clients)[1], state.weights)


def kept_run(tiny: Maker, rounds: int = 4, **run: Any) -> dict[str, dict[str, Any]]:
    return tiny(
        run={"rounds": rounds, "checkpoint_rounds": 2, **run},
        protocol=V3,
        training=SCAFFOLD,
        participation={"rule": "number", "clients": 8},
        threat={"attack": "label-flip", "clients": 2},
        evaluation={"clients_every": 2, "shard": 7},
    )


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ranks that are threads take turns where torch's own random numbers, which they share, are seeded."""
    turn, make = threading.Lock(), SplitModel.initial_weights

    def initial_weights(model: SplitModel, seed: int) -> torch.Tensor:
        with turn:
            return make(model, seed)

    monkeypatch.setattr(SplitModel, "initial_weights", initial_weights)


@pytest.mark.usefixtures("one_at_a_time")
def test_a_run_goes_on_with_its_vectors_on_any_number_of_ranks(
    tiny: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = hpcfsl.run(kept_run(tiny, 4), out=tmp_path / "whole")
    for rounds, size in ((2, 2), (3, 1), (4, 3)):
        config = resolve(kept_run(tiny, rounds, client_state_mib=0.001 * size))
        worlds = [small_world(config) for _ in range(size)]

        def of_rank(_: Config, communicator: Communicator, worlds: list[World] = worlds, **__: Any) -> World:
            return replace(worlds[communicator.rank], communicator=communicator)

        def start(communicator: ThreadCommunicator, config: Config = config) -> str:
            return simulate(config, RunFolder(tmp_path / "parts"), communicator)

        with monkeypatch.context() as patch:
            patch.setattr(simulation, "build_world", of_rank)
            assert on_ranks(size, start) == ["finished"] * size
    assert digest(hpcfsl.open(tmp_path / "parts")) == digest(whole)
    assert summary(whole)["averaged_for_tests"] == "client halves"
    print_summary(whole)
    assert "averaged client halves" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "parts" / "checkpoints").glob("clients_000004_*"))
    assert "clients_000004_rank_0000_of_0003_personal_0000.h5" in files
    assert "clients_000004_rank_0002_of_0003_variate_0000.h5" in files


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_change_no_bit(size: int) -> None:
    worlds = [small_world(small_config(protocol=V3, training=SCAFFOLD, **SOME)) for _ in range(size)]
    alone, _ = run_rounds(worlds[0], 3)

    def body(communicator: ThreadCommunicator) -> State:
        return run_rounds(replace(worlds[communicator.rank], communicator=communicator), 3)[0]

    for rank, state in enumerate(on_ranks(size, body)):
        assert as_bits(state.weights) == as_bits(alone.weights)
        assert state.variate is not None
        assert alone.variate is not None
        assert as_bits(state.variate) == as_bits(alone.variate)
        for name in (PERSONAL, VARIATE):
            wanted = {
                client: row
                for client, row in own_rows(alone, name).items()
                if home_of(np.array([client]), size) == rank
            }
            found = own_rows(state, name)
            assert found.keys() == wanted.keys()
            assert all(torch.equal(found[client], wanted[client]) for client in found)


def test_memory_for_vectors_changes_no_bit(tmp_path: Path) -> None:
    states = []
    for mib in (1024.0, 0.001, 0.0):
        config = small_config(run={"client_state_mib": mib}, protocol=V3, training=SCAFFOLD)
        states.append(run_rounds(small_world(config), 2)[0])
    held = [sum(table.bytes for table in state.vectors.values()) for state in states]
    assert held[0] > 2000 > held[1] > held[2] == 0
    for state in states[1:]:
        assert as_bits(state.weights) == as_bits(states[0].weights)
        for name in (PERSONAL, VARIATE):
            mine, first = own_rows(state, name), own_rows(states[0], name)
            assert all(torch.equal(mine[client], first[client]) for client in first)


def test_drifts_wait_beside_the_samples_until_training_takes_them_to_its_device() -> None:
    # On a GPU samples go there through page-locked memory, which what lies on the device already cannot.
    world = small_world(small_config(training=SCAFFOLD))
    state, samples = first_state(world), torch.zeros(3, 6)
    data = LocalData(
        clients=np.arange(3), counts=np.ones(3, np.int64), inputs=samples, targets=torch.zeros(3, dtype=torch.int64)
    )
    _, prepared = Keeping(world, state).prepare(state.weights.to("meta"), data)
    assert prepared.drift is not None
    assert prepared.drift.device == samples.device


def test_nothing_is_kept_where_nothing_stays() -> None:
    state, _ = run_rounds(small_world(small_config()), 1)
    assert state.vectors == {}
    assert state.variate is None


BAD: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"training": {**SCAFFOLD, "momentum": 0.9}}, r"training.drift = 'scaffold': .*momentum = 0"),
    ({"training": {**SCAFFOLD, "optimizer": "adam"}}, r"training.drift = 'scaffold': .*optimizer 'sgd'"),
    (
        {"protocol": {"name": "splitfed-v1", "personal": ["linear9"]}},
        r"protocol.personal = 'linear9': .*choose among linear1$",
    ),
    ({"protocol": {"name": "splitfed-v1", "personal": ["linear"]}}, r"protocol.personal = 'linear': no layer"),
    (
        {"protocol": {"name": "splitfed-v1", "personal": ["linear3"]}},
        r"protocol.personal = 'linear3': lies at the server",
    ),
    (
        {"protocol": {"name": "fedavg", "personal": ["linear1", "linear2", "linear3"]}},
        r"protocol.personal = \['linear1', .*: leaves nothing to share",
    ),
    ({"protocol": V3, "model": {"name": "mlp", "cut": "none"}}, r"model.cut = 'none': .*splitfed-v3"),
    ({"protocol": V3, "score": {"half": "client"}}, r"score.half = 'client': .*nothing of the client half is sent"),
    ({"protocol": {"name": "splitfed-v3", "personal": ["linear1"]}}, r"protocol.personal = \['linear1'\]: unknown"),
]


@pytest.mark.parametrize(("sections", "message"), BAD)
def test_what_cannot_work_is_refused_in_one_line(sections: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises((ConfigError, UserError), match=message) as caught:
        small_world(small_config(**sections))
    assert "\n" not in str(caught.value)
