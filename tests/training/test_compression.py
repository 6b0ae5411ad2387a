from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.made import small_config, small_world
from support.zoo import zoo_data, zoo_model, zoo_reference
from torch import Tensor

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.models.link import Link
from hpcfsl.trace.schema import METRICS
from hpcfsl.training.compression import Compression, compressions
from hpcfsl.training.compression.codes import CodedLink
from hpcfsl.training.compression.error import relative_error
from hpcfsl.training.compression.half_precision import LARGEST, HalfCode
from hpcfsl.training.compression.integers import LEAST, ByteCode
from hpcfsl.training.compression.largest import largest
from hpcfsl.training.compression.sparse import num_kept, place_bytes
from hpcfsl.training.executors import make_executor, train_group
from hpcfsl.training.native.executor import why_not
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.shared import make_shared
from hpcfsl.training.stacked import make_stacked
from hpcfsl.training.stacked.functional import FunctionalStep

CPU = torch.device("cpu")
RULES: dict[str, dict[str, Any]] = {
    "fp16": {"rule": "fp16"},
    "int8": {"rule": "int8"},
    "int8-up": {"rule": "int8", "gradients": False},
    "top-k": {"rule": "top-k", "share": 0.4},
    "top-k-up": {"rule": "top-k", "share": 0.4, "gradients": False},
}
rows = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-1e4, 1e4, width=32))


def link_of(rule: str) -> Link:
    return compressions.parse(RULES[rule]).link()


@given(rows)
def test_16_bits_are_numpys(values: np.ndarray) -> None:
    assert np.array_equal(HalfCode().decoded(torch.from_numpy(values)), values.astype(np.float16).astype(np.float32))


def test_16_bits_saturate_and_keep_what_is_not_finite() -> None:
    found = HalfCode().decoded(torch.tensor([[1e6, -1e6, float("inf"), -float("inf"), float("nan"), 1e-9]]))
    assert found[0, :4].tolist() == [LARGEST, -LARGEST, float("inf"), -float("inf")]
    assert bool(found[0, 4].isnan())
    assert found[0, 5] == 0


@given(rows)
def test_8_bits_err_by_half_a_step_and_keep_zero(values: np.ndarray) -> None:
    given_rows = torch.from_numpy(values)
    found, scale = ByteCode().decoded(given_rows), ByteCode().scale(given_rows)
    assert bool(((found - given_rows).abs() <= 0.5001 * scale + 255 * LEAST).all())
    assert bool((found[given_rows == 0] == 0).all())
    steps = np.where((values < 0).any(axis=1, keepdims=True), 127, 255)
    np.testing.assert_allclose(scale, np.abs(values).max(axis=1, keepdims=True) / steps, rtol=1e-6, atol=LEAST)
    codes = (found / scale.where(scale > 0, scale + 1)).round()
    assert bool((codes.abs() <= torch.from_numpy(steps)).all())


def test_8_bits_of_a_sample_with_a_nan_are_nan_and_leave_the_others_alone() -> None:
    values = torch.tensor([[1.0, float("nan")], [2.0, -1.0], [float("inf"), 1.0], [0.0, 0.0]])
    found = ByteCode().decoded(values)
    assert bool(found[0].isnan().all())
    assert bool(found[2, 0].isnan())
    assert torch.equal(found[3], torch.zeros(2))
    np.testing.assert_allclose(found[1], [2.0, -1.0], atol=2 / 127)


@given(rows, st.floats(0.01, 1.0))
def test_top_k_keeps_the_largest_and_the_first_of_equals(values: np.ndarray, share: float) -> None:
    kept = largest(torch.from_numpy(values), share).numpy()
    number = num_kept(values.shape[1], share)
    for row, chosen in zip(values, kept, strict=True):
        wanted = sorted(range(len(row)), key=lambda place: (-abs(row[place]), place))[:number]
        assert np.flatnonzero(chosen).tolist() == sorted(wanted)


def test_top_k_takes_a_nan_for_the_largest() -> None:
    values = torch.tensor([[1.0, float("nan"), 5.0, float("inf")]])
    assert largest(values, 0.5).tolist() == [[False, True, False, True]]


@pytest.mark.parametrize("rule", RULES)
def test_a_sample_depends_on_itself_alone(rule: str) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 3, 4, generator=generator) * torch.logspace(-3, 3, 6).view(6, 1, 1)
    weights = torch.randn(6, 3, 4, generator=generator)

    def both(some: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        leaf = some.clone().requires_grad_()
        passed = link_of(rule)(leaf)
        return passed.detach(), torch.autograd.grad((passed * slopes).sum(), leaf)[0]

    together, gradient = both(values, weights)
    assert not torch.equal(together, values)
    for row in range(6):
        alone = both(values[row : row + 1], weights[row : row + 1])
        assert torch.equal(alone[0][0], together[row])
        assert torch.equal(alone[1][0], gradient[row])


@pytest.mark.parametrize("rule", RULES)
def test_gradients_pass_straight_through_and_are_coded_if_asked(rule: str) -> None:
    link, generator = link_of(rule), torch.Generator().manual_seed(3)
    values, weights = torch.randn(2, 3, 7, generator=generator)
    leaf = values.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((link(leaf) * weights).sum(), leaf)
    wanted = weights
    if isinstance(link, CodedLink) and link.gradients:
        wanted = link.code.decoded(weights)
    elif rule == "top-k":
        wanted = weights * largest(values, 0.4)
    assert torch.equal(gradient, wanted)


@given(st.integers(1, 300), st.floats(0.001, 1.0))
def test_lossless_at_trivial_settings(features: int, share: float) -> None:
    whole = compressions.parse({"rule": "top-k", "share": 1.0}).link()
    values = torch.linspace(-1, 1, 2 * features).view(2, features)
    assert torch.equal(whole(values), values)
    assert whole.up_bytes(features) == whole.down_bytes(features) == 4 * features
    bytes_of = torch.arange(2.0 * features).fmod(256).view(2, features)
    bytes_of[:, 0] = 255.0  # multiples of a scale of 1
    assert torch.equal(ByteCode().decoded(bytes_of), bytes_of)
    assert torch.equal(HalfCode().decoded(bytes_of), bytes_of)
    assert 1 <= num_kept(features, share) <= features


def test_bytes_counted_by_hand() -> None:
    expected = {"fp16": (2000, 2000), "int8": (1004, 1004), "int8-up": (1004, 4000)}
    # 400 of 1000 numbers; a bit for each of the 1000 is 125 bytes, 400 indices of two bytes would be 800.
    expected |= {"top-k": (1600 + 125, 1600), "top-k-up": (1600 + 125, 4000)}
    assert {rule: (link_of(rule).up_bytes(1000), link_of(rule).down_bytes(1000)) for rule in RULES} == expected
    assert place_bytes(1000, 10) == 20
    assert place_bytes(200, 3) == 3
    assert place_bytes(70_000, 100) == 300
    assert place_bytes(1, 1) == place_bytes(50, 50) == 0


def compressed(name: str, rule: str) -> Any:
    return replace(zoo_model(name), link=link_of(rule))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("executor", ["stacked", "one-by-one"])
@pytest.mark.parametrize("name", ["mlp", "digits-cnn", "next-symbol"])
def test_every_executor_equals_the_slow_reference(name: str, executor: str, rule: str) -> None:
    model, data = compressed(name, rule), zoo_data(name)
    settings = TrainingSettings(batch_size=3, executor=executor, learning_rate=0.05)
    made = make_executor(model, settings, CPU)
    assert made.name == executor
    found = train_group(made, model.initial_weights(1), data, chunk=3, seed=5, round=2).updates
    wanted = zoo_reference(model, data, settings, seed=5, round=2)
    # A number next to the middle of two steps may be rounded to either by another order of summing.
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2 * float(np.abs(np.asarray(wanted)).max()))
    plain = zoo_reference(zoo_model(name), data, settings, seed=5, round=2)
    assert not np.array_equal(np.asarray(wanted), np.asarray(plain))


@pytest.mark.parametrize("rule", RULES)
def test_torch_func_batches_every_link(rule: str) -> None:
    model, data = compressed("scaled", rule), zoo_data("scaled")
    settings = TrainingSettings(batch_size=3)
    made = make_stacked(model, settings, CPU)
    assert isinstance(made._step, FunctionalStep)  # type: ignore[union-attr]  # it is no loop
    found = train_group(made, model.initial_weights(1), data, chunk=4, seed=5, round=2).updates
    wanted = zoo_reference(model, data, settings, seed=5, round=2)
    np.testing.assert_allclose(found, wanted, rtol=2e-2, atol=2e-2 * float(np.abs(np.asarray(wanted)).max()))


def test_one_by_one_gives_a_client_the_same_bits_in_any_company() -> None:
    model, data = compressed("mlp", "int8"), zoo_data("mlp")
    made = make_executor(model, TrainingSettings(batch_size=2, executor="one-by-one"), CPU)
    start = model.initial_weights(1)
    together = made.train(start, data, seed=5, round=2).updates
    for row in range(len(together)):
        alone = made.train(start, data.chunk(row, row + 1), seed=5, round=2).updates[0]
        assert torch.equal(alone, together[row])


def test_the_compiled_engine_says_why_it_refuses() -> None:
    assert why_not(compressed("mlp", "int8")) in (
        "its smashed data is compressed",
        "the package was installed without a C++ compiler",
    )
    with pytest.raises(UserError, match=r"training\.executor = 'native': .*its smashed data is compressed|compiler"):
        small_world(small_config(compression={"rule": "int8"}, training={"batch_size": 4, "executor": "native"}))


def test_a_world_carries_the_link_and_its_bytes() -> None:
    world = small_world(small_config(compression={"rule": "int8", "gradients": False}))
    wire = world.config.protocol.wire_bytes(world.model, np.array([10]), 2)
    assert wire.smashed_up.tolist() == [2 * 10 * (8 + 4)]  # cut after relu1: 8 numbers
    assert wire.gradients_down.tolist() == [2 * 10 * 4 * 8]
    assert world.executor.name != "native"


@pytest.mark.parametrize(
    "sections", [{"protocol": {"name": "fedavg"}}, {"model": {"name": "mlp", "cut": "none"}}], ids=["fedavg", "none"]
)
def test_nothing_to_compress_is_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"compression\.rule = 'int8': .*sends no smashed data; use 'none'"):
        resolve({"compression": {"rule": "int8"}, **sections})


def test_a_compression_without_a_link_says_so() -> None:
    make: Callable[[], Link] = Compression(rule="nameless").link
    with pytest.raises(AssertionError, match="makes its link"):
        make()


@pytest.mark.parametrize("rule", ["fp16", "int8", "top-k"])
def test_the_error_of_the_smashed_data_is_on_record(rule: str, tmp_path: Path) -> None:
    config = small_config(compression=RULES[rule], evaluation={"shard": 7})
    tree = config.tree()
    tree["run"]["rounds"] = 1
    run = hpcfsl.run(tree, out=tmp_path / "run")
    metrics = run.table("metrics")
    found = metrics["value"][(metrics["population"] == 0) & (metrics["metric"] == METRICS.index("smashed-error"))]
    world = small_world(config)
    inputs, _ = world.feed.test_batch(0, world.feed.num_test)
    weights = world.model.layout.unflatten(torch.from_numpy(run.weights()))
    smashed = world.model.client_forward(weights, torch.from_numpy(inputs)).double()
    change = link_of(rule)(smashed.float()).double() - smashed
    np.testing.assert_allclose(found, [float(change.norm() / smashed.norm())], rtol=1e-3)
    assert 0 < found[0] < (0.9 if rule == "top-k" else 0.01)


def test_without_compression_there_is_no_such_error(tmp_path: Path) -> None:
    tree = small_config().tree()
    tree["run"]["rounds"] = 1
    run = hpcfsl.run(tree, out=tmp_path / "run")
    assert METRICS.index("smashed-error") not in run.table("metrics")["metric"]


def test_smashed_data_of_nothing_but_zeros_has_no_error() -> None:
    assert relative_error(np.zeros(2)) == 0.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("in_turn", "executor"), [(False, "stacked"), (False, "one-by-one"), (True, "one-by-one")])
def test_a_shared_server_half_sees_what_a_copy_would(in_turn: bool, executor: str, rule: str) -> None:
    model, data = compressed("mlp", rule), zoo_data("mlp", (7,), (3,))
    settings, start = TrainingSettings(batch_size=3, local_epochs=2, executor=executor), model.initial_weights(1)
    shared, _ = make_shared(model, settings, CPU, in_turn=in_turn).train(start, data, seed=5, round=2)
    alone = make_executor(model, settings.replace(executor="one-by-one"), CPU).train(start, data, seed=5, round=2)
    np.testing.assert_allclose(shared.updates, alone.updates, rtol=1e-4, atol=1e-5)
    plain, _ = make_shared(zoo_model("mlp"), settings, CPU, in_turn=in_turn).train(start, data, seed=5, round=2)
    assert float((plain.updates - shared.updates).abs().max()) > 1e-6
