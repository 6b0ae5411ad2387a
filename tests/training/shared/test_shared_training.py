"""One server half a group: the fast ways against the slow one, and the identities that must hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.zoo import zoo_model
from torch import nn

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel, split
from hpcfsl.native.library import library
from hpcfsl.training.one_by_one import OneByOneExecutor
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared import Conditions, make_shared, reference
from hpcfsl.training.shared.trainer import SharedTrainer, turn_order
from hpcfsl.training.updates import FirstUpdates, LocalData

CPU = torch.device("cpu")
EXECUTORS = ["stacked", "one-by-one", *(["native"] if library() else [])]
ALONE = [name for name in EXECUTORS if name != "stacked"]
KEY: dict[str, Any] = {"seed": 7, "round": 2}


def made(tail: str | None = None, dropout: float = 0.0) -> SplitModel:
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Dropout(dropout), nn.Linear(7, 4)]
    return split(nn.Sequential(*layers), "1", (6,), tail=tail)


def group(counts: tuple[int, ...] = (20, 7, 33), *, first: int = 3) -> LocalData:
    generator = torch.Generator().manual_seed(5)
    return LocalData(
        clients=np.arange(len(counts)) * 4 + first,
        counts=np.array(counts),
        inputs=torch.randn(sum(counts), 6, generator=generator),
        targets=torch.randint(4, (sum(counts),), generator=generator),
    )


def trainer(model: SplitModel, in_turn: bool = False, **settings: Any) -> SharedTrainer:
    return make_shared(model, training(**settings), CPU, in_turn=in_turn)


def training(**settings: Any) -> TrainingSettings:
    return TrainingSettings(**{"batch_size": 8, "local_epochs": 2, **settings})


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("tail", [None, ""])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_together_is_the_slow_reference(executor: str, tail: str | None, momentum: float) -> None:
    model, data = made(tail), group()
    start = model.initial_weights(0)
    shared = trainer(model, executor=executor, momentum=momentum, chunk_clients=2)
    assert shared.name == executor
    first, session = shared.train(start, data, **KEY)
    slow = reference.train_together(model, start, data, training(momentum=momentum), **KEY)
    close(first.updates, slow.updates)
    close(session.displacement, slow.displacement)
    assert first.steps.tolist() == [6, 2, 10]


@pytest.mark.parametrize("executor", ALONE)
@pytest.mark.parametrize("tail", [None, ""])
def test_in_turn_is_the_slow_reference(executor: str, tail: str | None) -> None:
    model, data = made(tail), group()
    start = model.initial_weights(0)
    first, session = trainer(model, in_turn=True, executor=executor, momentum=0.5).train(start, data, **KEY)
    order = turn_order(data.clients, **KEY)
    slow = reference.train_in_turn(model, start, data, training(momentum=0.5), order, **KEY)
    close(first.updates, slow.updates)
    close(session.displacement, slow.displacement)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("tail", [None, ""])
def test_a_replay_without_a_client_is_training_on_what_the_others_sent(executor: str, tail: str | None) -> None:
    model, data = made(tail), group()
    start = model.initial_weights(0)
    shared = trainer(model, executor=executor, chunk_clients=2)
    _, session = shared.train(start, data, **KEY)
    slow = reference.train_together(model, start, data, training(), **KEY)
    found = shared.replay(session, np.array([0.5, np.nan, 2.0]))
    close(found.displacement, reference.replay(model, start, slow.sent, {0: 0.5, 2: 2.0}, training()))
    assert found.samples == 2 * (20 + 33)


@pytest.mark.parametrize("executor", ALONE)
def test_a_replay_of_turns_without_a_client_is_training_on_what_the_others_sent(executor: str) -> None:
    model, data = made(), group()
    start = model.initial_weights(0)
    shared = trainer(model, in_turn=True, executor=executor)
    _, session = shared.train(start, data, **KEY)
    order = turn_order(data.clients, **KEY)
    slow = reference.train_in_turn(model, start, data, training(), order, **KEY)
    found = shared.replay(session, np.array([np.nan, 1.5, 1.0]))
    close(found.displacement, reference.replay(model, start, slow.sent, {1: 1.5, 2: 1.0}, training()))


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("tail", [None, ""])
@pytest.mark.parametrize("optimiser", [{"momentum": 0.5}, {"optimizer": "adam", "learning_rate": 0.01}])
@pytest.mark.parametrize("executor", ALONE)
def test_a_replay_of_everybody_is_what_was_trained(
    executor: str, in_turn: bool, tail: str | None, optimiser: dict[str, Any]
) -> None:
    model, data = made(tail, dropout=0.3), group()
    shared = trainer(model, in_turn, clip_norm=0.5, executor=executor, **optimiser)
    _, session = shared.train(model.initial_weights(0), data, **KEY)
    found = shared.replay(session, np.ones(3))
    close(found.displacement, session.displacement)
    assert float(session.displacement.norm()) > 0.01


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("tail", [None, ""])
def test_a_group_of_one_trains_as_with_a_server_copy_of_its_own(in_turn: bool, tail: str | None) -> None:
    model, data = made(tail, dropout=0.3), group((21,))
    start = model.initial_weights(0)
    settings = {"server_half_learning_rate": 0.05}
    alone = OneByOneExecutor(model, training(**settings), CPU).train(start, data, **KEY)
    first, session = trainer(model, in_turn, **settings).train(start, data, **KEY)
    close(first.updates, alone.updates)
    close(session.displacement, alone.updates[0, model.layout.client_size :])
    np.testing.assert_allclose(first.loss_last, alone.loss_last, rtol=1e-6)


def test_for_plain_sgd_the_weighted_evidence_is_what_the_server_half_moved_by() -> None:
    model, data = made(), group()
    first, session = trainer(model).train(model.initial_weights(0), data, **KEY)
    shares = torch.from_numpy(data.counts / data.counts.sum()).float()
    close(shares @ first.updates[:, model.layout.client_size :], session.displacement)


def test_equal_clients_move_as_one_of_them_alone() -> None:
    # The rate of a client does not depend on how many train beside it, nor does the server half's.
    model, one = made(), group((24,))
    start = model.initial_weights(0)
    shared = trainer(model, local_epochs=1, batch_size=24)
    alone, single = shared.train(start, one, **KEY)
    three = replace(
        one,
        clients=np.array([3, 4, 5]),
        counts=np.array([24] * 3),
        inputs=one.inputs.repeat(3, 1),
        targets=one.targets.repeat(3),
    )
    first, session = shared.train(start, three, **KEY)
    close(first.updates, alone.updates.expand(3, -1))
    close(session.displacement, single.displacement)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_same_bits_for_any_chunks(executor: str) -> None:
    model, data = made(dropout=0.2), group((20, 7, 33, 12, 20))
    start = model.initial_weights(0)
    made_by = [trainer(model, executor=executor, chunk_clients=chunk).train(start, data, **KEY) for chunk in (1, 2, 5)]
    for first, session in made_by[1:]:
        assert torch.equal(first.updates, made_by[0][0].updates)
        assert torch.equal(session.displacement, made_by[0][1].displacement)


@pytest.mark.parametrize("executor", ALONE)
def test_a_client_that_is_not_finite_ends_nobody_elses_training(executor: str) -> None:
    model, data = made(), group()
    data.inputs[20:27] = torch.nan
    start = model.initial_weights(0)
    for in_turn in (False, True):
        shared = trainer(model, in_turn, executor=executor)
        first, session = shared.train(start, data, **KEY)
        assert torch.isfinite(first.updates).all(dim=1).tolist() == [True, False, True]
        assert torch.isfinite(session.displacement).all()
        assert torch.isfinite(shared.replay(session, np.array([1.0, np.nan, 1.0])).displacement).all()


@pytest.mark.parametrize(("in_turn", "tail"), [(False, None), (True, None), (False, "")])
def test_a_screened_client_has_no_part_in_what_others_learn(in_turn: bool, tail: str | None) -> None:
    model, data = made(tail), group()
    start = model.initial_weights(0)
    two = LocalData(
        clients=data.clients[[0, 2]],
        counts=data.counts[[0, 2]],
        inputs=torch.cat([data.inputs[:20], data.inputs[27:]]),
        targets=torch.cat([data.targets[:20], data.targets[27:]]),
    )
    seen: list[torch.Tensor] = []

    def screen(smashed: torch.Tensor, counts: np.ndarray, labels: torch.Tensor | None) -> np.ndarray:
        seen.append(smashed)
        assert labels is (data.targets if tail is None else None)
        assert counts.tolist() == [20, 7, 33]
        return np.array([True, False, True])

    shared = trainer(model, in_turn)
    first, session = shared.train(start, data, conditions=Conditions(screen=screen), **KEY)
    others, without = shared.train(start, two, **KEY)
    close(session.displacement, without.displacement)
    assert session.used.tolist() == [True, False, True]
    close(first.updates[[0, 2], : model.layout.client_size], others.updates[:, : model.layout.client_size])
    assert float(first.updates[1].norm()) > 0
    close(seen[0], model.client_forward(model.layout.unflatten(start), data.inputs))


@pytest.mark.parametrize("tail", [None, ""])
def test_a_replay_undoes_steps_and_not_what_others_answered_to_them(tail: str | None) -> None:
    # In the first step everybody meets the server half of the round's start; later one that all have moved.
    model, data = made(tail), group()
    other = replace(data, inputs=data.inputs.clone())
    other.inputs[20:27] *= 5
    for batch_size, alike in ((64, True), (8, False)):
        shared = trainer(model, batch_size=batch_size, local_epochs=1, learning_rate=1.0)
        sessions = [shared.train(model.initial_weights(0), each, **KEY)[1] for each in (data, other)]
        one, two = (shared.replay(each, np.array([1.0, np.nan, 1.0])).displacement for each in sessions)
        assert float((sessions[0].displacement - sessions[1].displacement).norm()) > 0.01
        assert torch.equal(one, two) if alike else float((one - two).norm()) > 0.01


def test_what_a_liar_sends_is_what_the_server_sees() -> None:
    model, data = made(), group()
    start = model.initial_weights(0)
    calls: list[tuple[int, int]] = []

    def poison(client: int, step: int, smashed: torch.Tensor) -> torch.Tensor:
        calls.append((client, step))
        return -smashed

    liars = Conditions(liars=np.array([False, True, False]), poison=poison)
    made_by: dict[bool, list[FirstUpdates]] = {False: [], True: []}
    for in_turn, executor in [*((False, name) for name in EXECUTORS), *((True, name) for name in ALONE)]:
        calls.clear()
        shared = trainer(model, in_turn, executor=executor)
        honest = shared.train(start, data, **KEY)[1].received
        first, session = shared.train(start, data, conditions=liars, **KEY)
        made_by[in_turn].append(first)
        lied = session.received
        step = next(place for place, each in enumerate(lied) if 1 in each.takers.rows)
        takers = lied[step].takers
        rows = np.repeat(takers.rows == 1, takers.width)
        assert torch.equal(lied[0].smashed[~rows], honest[0].smashed[~rows]) if step == 0 else True
        if not in_turn:
            size = int(takers.sizes[takers.rows == 1][0])
            assert torch.equal(lied[step].smashed[rows][:size], -honest[step].smashed[rows][:size])
        assert calls == [(7, 0), (7, 1)]
    for found in made_by.values():
        for other in found[1:]:
            close(other.updates, found[0].updates)


def test_the_order_of_turns_is_of_the_clients_alone() -> None:
    clients = np.array([2, 9, 11, 40])
    order = turn_order(clients, **KEY)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    some = clients[np.sort(order[:3])]
    assert some[turn_order(some, **KEY)].tolist() == clients[order[:3]].tolist()
    orders = {tuple(turn_order(clients, seed=7, round=round).tolist()) for round in range(20)}
    assert len(orders) > 5


@pytest.mark.parametrize(
    ("in_turn", "settings", "key"),
    [
        (True, {"executor": "stacked"}, "training.executor"),
        (False, {"precision": "tf32"}, "training.precision"),
    ],
)
def test_what_cannot_work_is_refused(in_turn: bool, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        trainer(made(), in_turn, **settings)


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
def test_compiled_kernels_are_chosen_where_they_can_be_and_refused_where_not() -> None:
    assert trainer(made()).name == "native"
    assert trainer(made(), in_turn=True).name == "native"
    branching = zoo_model("branching")
    assert trainer(branching).name != "native"
    with pytest.raises(ConfigError, match="cannot train this model"):
        trainer(branching, executor="native")


@pytest.mark.skipif(library() is None, reason="the kernels were not built")
@pytest.mark.parametrize("in_turn", [False, True])
def test_the_same_bits_on_any_number_of_threads(in_turn: bool) -> None:
    model, data = made(dropout=0.2), group((20, 7, 33, 12, 20))
    start, before, found = model.initial_weights(0), torch.get_num_threads(), list[Any]()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(trainer(model, in_turn, executor="native").train(start, data, **KEY))
    finally:
        torch.set_num_threads(before)
    (first, session), (other, again) = found
    assert torch.equal(first.updates, other.updates)
    assert torch.equal(session.displacement, again.displacement)
