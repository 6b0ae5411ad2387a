from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.zoo import ZOO, zoo_data, zoo_model, zoo_reference
from torch import nn

from hpcfsl.errors import ConfigError
from hpcfsl.models.split import SplitModel, split
from hpcfsl.training.evaluation import evaluate
from hpcfsl.training.executors import choose, describe, make_executor, train_group
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked import make_stacked
from hpcfsl.training.updates import FirstUpdates, LocalData

CPU = torch.device("cpu")
EXECUTORS = ("native", "stacked", "one-by-one")
OPTIMISERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "momentum": {"momentum": 0.9, "local_epochs": 2},
    "decay": {"weight_decay": 0.1},
    "both": {"momentum": 0.5, "weight_decay": 0.05, "local_epochs": 3, "batch_size": 3},
    "whole-batch": {"batch_size": 100, "local_epochs": 2},
    "proximal": {"proximal": 2.0, "local_epochs": 2},
    "clipped": {"clip_norm": 0.3, "weight_decay": 0.1},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "local_epochs": 2},
    "all": {
        "optimizer": "adam",
        "learning_rate": 0.02,
        "adam_beta1": 0.8,
        "adam_beta2": 0.95,
        "adam_epsilon": 1e-3,
        "weight_decay": 0.1,
        "proximal": 0.5,
        "clip_norm": 1.0,
        "local_epochs": 3,
        "batch_size": 3,
    },
}


def train(
    model: SplitModel, data: LocalData, *, executor: str, chunk: int = 100, round: int = 2, **settings: Any
) -> FirstUpdates:
    chosen = TrainingSettings(**{"batch_size": 2, "executor": executor, **settings})
    made = make_executor(model, chosen, CPU)
    return train_group(made, model.initial_weights(1), data, chunk=chunk, seed=5, round=round)


def check_against_reference(name: str, executor: str, settings: dict[str, Any]) -> None:
    model, data = zoo_model(name), zoo_data(name)
    found = train(model, data, executor=executor, **settings)
    wanted = zoo_reference(model, data, TrainingSettings(**settings), seed=5, round=2)
    # Adam divides by roots of squares that are next to nothing where a gradient is.
    noise = 2e-4 if settings.get("optimizer") == "adam" else 3e-6
    np.testing.assert_allclose(found.updates, wanted, rtol=1e-3, atol=noise)
    assert float(wanted.abs().max()) > 1e-3


@pytest.mark.parametrize("optimiser", sorted(OPTIMISERS))
@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("name", ["mlp", "next-symbol", "scaled"])
def test_every_optimiser_equals_the_slow_reference(name: str, executor: str, optimiser: str) -> None:
    if (name, executor) == ("scaled", "native"):
        name = "dropouts"  # the engine does not know parameters of a module's own
    check_against_reference(name, executor, {"batch_size": 2, **OPTIMISERS[optimiser]})


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_model_equals_the_slow_reference(name: str, executor: str) -> None:
    check_against_reference(name, executor, {"batch_size": 3, "local_epochs": 2, "momentum": 0.5})


@pytest.mark.parametrize("cut", ["linear1", "relu1", "linear2", "relu2"])
def test_the_reference_is_the_same_at_every_cut(cut: str) -> None:
    settings = TrainingSettings(batch_size=2, momentum=0.5)
    updates = []
    for model in (zoo_model("mlp", cut), zoo_model("mlp", "none")):
        update = zoo_reference(model, zoo_data("mlp", (9,), (4,)), settings, seed=1, round=0)[0]
        updates.append({name.partition(".")[2]: value for name, value in model.layout.unflatten(update).items()})
    for name, value in updates[0].items():
        np.testing.assert_allclose(value, updates[1][name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["mlp", "digits-cnn", "dropouts", "next-symbol"])
def test_one_by_one_gives_a_client_the_same_bits_in_any_company(name: str) -> None:
    model, data = zoo_model(name), zoo_data(name)
    together = train(model, data, executor="one-by-one", momentum=0.5)
    for chunk in (1, 3):
        pieces = train(model, data, executor="one-by-one", chunk=chunk, momentum=0.5)
        assert torch.equal(pieces.updates, together.updates)
    for row in range(4):
        alone = train(model, data.chunk(row, row + 1), executor="one-by-one", momentum=0.5)
        assert torch.equal(alone.updates[0], together.updates[row])


@pytest.mark.parametrize("name", sorted(ZOO))
def test_stacked_is_repeatable_and_chunks_agree_to_tolerance(name: str) -> None:
    model, data = zoo_model(name), zoo_data(name)
    together = train(model, data, executor="stacked")
    assert torch.equal(train(model, data, executor="stacked").updates, together.updates)
    for chunk in (1, 3):
        pieces = train(model, data, executor="stacked", chunk=chunk)
        np.testing.assert_allclose(pieces.updates, together.updates, rtol=1e-3, atol=3e-6)
        np.testing.assert_allclose(pieces.loss_first, together.loss_first, rtol=1e-4)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_what_is_reported_beside_the_updates(executor: str) -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp")
    found = train(model, data, executor=executor, local_epochs=3, chunk=3)
    assert found.clients.tolist() == [2, 3, 7, 11]
    assert found.samples.tolist() == [5, 1, 8, 3]
    assert found.steps.tolist() == [9, 3, 12, 6]
    assert found.updates.shape == (4, model.layout.size)
    assert found.updates.dtype == torch.float32
    assert (found.loss_last < found.loss_first).all()
    # With one whole batch the first epoch's loss is that of the start weights.
    whole = train(model, data, executor=executor, batch_size=100)
    for row in range(4):
        piece = data.chunk(row, row + 1)
        _, total = evaluate(model, model.initial_weights(1), piece.inputs, piece.targets)
        assert whole.loss_first[row] == pytest.approx(total / len(piece.targets), rel=1e-5)
        assert whole.loss_first[row] == whole.loss_last[row]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_reported_losses_are_the_same_of_all_executors(executor: str) -> None:
    model, data = zoo_model("next-symbol"), zoo_data("next-symbol")
    found = train(model, data, executor=executor, local_epochs=2)
    other = train(model, data, executor=EXECUTORS[EXECUTORS.index(executor) - 1], local_epochs=2)
    np.testing.assert_allclose(found.loss_first, other.loss_first, rtol=1e-5)
    np.testing.assert_allclose(found.loss_last, other.loss_last, rtol=1e-5)


@pytest.mark.parametrize("optimiser", ["momentum", "adam"])
@pytest.mark.parametrize("executor", EXECUTORS)
def test_nothing_is_left_over_from_one_round_to_the_next(executor: str, optimiser: str) -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp")
    settings = TrainingSettings(batch_size=2, executor=executor, **OPTIMISERS[optimiser])
    made = make_executor(model, settings, CPU)
    start = model.initial_weights(1)
    before = start.clone()
    first = made.train(start, data, seed=5, round=0).updates
    # A smaller chunk, and another round, in between.
    made.train(start, data.chunk(0, 2), seed=5, round=1)
    assert torch.equal(made.train(start, data, seed=5, round=0).updates, first)
    assert torch.equal(start, before)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_dropout_is_of_training_only(executor: str) -> None:
    model, data = zoo_model("dropouts"), zoo_data("dropouts")
    weights = model.initial_weights(1)
    before = evaluate(model, weights, data.inputs, data.targets)
    train(model, data, executor=executor)
    assert evaluate(model, weights, data.inputs, data.targets) == before


def test_batches_are_keyed_by_seed_and_round() -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp")
    assert not torch.equal(
        train(model, data, executor="one-by-one").updates, train(model, data, executor="one-by-one", round=3).updates
    )


@pytest.mark.parametrize("executor", EXECUTORS)
def test_another_clients_broken_sample_does_no_harm(executor: str) -> None:
    model, data = zoo_model("mlp"), zoo_data("mlp")
    wanted = train(model, data, executor=executor).updates
    data.inputs[:5] = float("nan")
    found = train(model, data, executor=executor).updates
    assert bool(found[0].isnan().any())
    assert torch.equal(found[1:], wanted[1:])


@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
def test_bfloat16_trains_to_about_the_same(executor: str) -> None:
    model, data = zoo_model("next-symbol"), zoo_data("next-symbol")
    exact = train(model, data, executor=executor).updates
    found = train(model, data, executor=executor, precision="bf16").updates
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert float((found - exact).norm() / exact.norm()) < 0.05


class TestChoice:
    def test_auto_follows_the_model_and_the_device(self) -> None:
        settings = TrainingSettings()
        assert choose(zoo_model("mlp"), settings, CPU).executor == "native"
        assert choose(zoo_model("block"), settings, CPU).executor == "stacked"
        assert choose(zoo_model("digits-cnn"), settings, torch.device("cuda")).executor == "stacked"

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("mlp", "stacked"),
            ("block", "stacked"),
            ("next-symbol", "stacked"),
            ("scaled", "stacked (by torch.func: parameter client.scale is used outside of a known layer)"),
        ],
    )
    def test_the_record_says_what_was_used(self, name: str, wanted: str) -> None:
        made = make_executor(zoo_model(name), TrainingSettings(executor="stacked"), CPU)
        assert describe(made) == wanted

    def test_what_cannot_be_stacked_is_trained_one_by_one(self) -> None:
        made = make_executor(zoo_model("branching"), TrainingSettings(executor="stacked"), CPU)
        assert made.name == "one-by-one"
        assert made.detail.startswith("not stacked: torch.fx cannot trace the model (")
        assert "; by torch.func: " in made.detail

    def test_a_module_that_mixes_samples_is_found_out(self) -> None:
        class Mixing(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(6, 3)

            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                return self.linear(inputs - inputs.mean(dim=0))

        model = split(Mixing(), "none", (6,))
        made = make_executor(model, TrainingSettings(executor="stacked"), CPU)
        assert describe(made) == "stacked (by torch.func: stacked it computes something else: does it mix samples?)"

    @pytest.mark.parametrize(
        ("settings", "key"),
        [
            ({"precision": "tf32"}, "training.precision"),
            ({"cuda_graphs": True}, "training.cuda_graphs"),
            ({"executor": "native", "precision": "bf16"}, "training.precision"),
        ],
    )
    def test_what_the_device_cannot_do_is_refused(self, settings: dict[str, Any], key: str) -> None:
        with pytest.raises(ConfigError) as error:
            choose(zoo_model("mlp"), TrainingSettings(**settings), CPU)
        assert error.value.key == key

    def test_graphs_of_what_cannot_be_stacked_are_refused(self) -> None:
        settings = TrainingSettings(executor="stacked", cuda_graphs=True)
        with pytest.raises(ConfigError, match=r"training\.cuda_graphs = True: cannot record this model \(torch\.fx"):
            make_stacked(zoo_model("branching"), settings, CPU)
