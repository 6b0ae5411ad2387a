"""Virtual time by hand, and what device classes, jitter and stragglers do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.made import no_bytes
from torch import nn

from hpcfsl.bench.flops import training_flops
from hpcfsl.clock import Work, clocks
from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError
from hpcfsl.models import models
from hpcfsl.models.operations import count_halves
from hpcfsl.models.split import cut_points, split
from hpcfsl.training.protocols import WireBytes

ONE = {"name": "only", "share": 1.0, "gflops": 2.0, "up_mbps": 4.0, "down_mbps": 16.0, "latency_ms": 5.0}
WIRE = WireBytes(
    smashed_up=np.array([1000, 0]),
    gradients_down=np.array([1000, 0]),
    labels_up=np.array([80, 0]),
    outputs_down=np.array([0, 0]),
    output_gradients_up=np.array([0, 0]),
    model_up=np.array([500, 700]),
    model_down=np.array([500, 700]),
)
WORK = Work(
    clients=np.array([2, 7]),
    client_flops=np.array([3e6, 5e6]),
    server_flops=np.array([8e6, 0.0]),
    steps=np.array([4, 4]),
    wire=WIRE,
)


def make(**settings: Any) -> Any:
    return clocks.parse({"rule": "devices", "classes": [ONE], **settings})


def many(count: int) -> Work:
    none, one = np.zeros(count, np.int64), np.ones(count)
    return Work(
        clients=np.arange(count), client_flops=2e9 * one, server_flops=0 * one, steps=none, wire=no_bytes(count)
    )


def test_virtual_time_by_hand() -> None:
    found = make(server_gflops=100.0).client_seconds(WORK, seed=1, round=0)
    # Compute, up, down, ten messages (the model twice, smashed data and gradients of four steps), server.
    first = 3e6 / 2e9 + 8 * 1580 / 4e6 + 8 * 1500 / 16e6 + 10 * 0.005 + 8e6 / 100e9
    # Without a cut nothing but the model travels.
    second = 5e6 / 2e9 + 8 * 700 / 4e6 + 8 * 700 / 16e6 + 2 * 0.005
    np.testing.assert_allclose(found, [first, second], rtol=1e-12, atol=0)


def test_a_servers_link_bounds_its_clients() -> None:
    clock = make(server_mbps=1.0, server_latency_ms=20.0)
    found = clock.client_seconds(WORK, seed=1, round=0)
    np.testing.assert_allclose(found[1], 5e6 / 2e9 + 2 * 8 * 700 / 1e6 + 2 * 0.005, rtol=1e-12)
    assert clock.across_seconds(up_bytes=1000, down_bytes=500) == pytest.approx(8 * 1500 / 1e6 + 0.04, rel=1e-12)
    assert clock.across_seconds(up_bytes=0, down_bytes=500) == pytest.approx(8 * 500 / 1e6 + 0.02, rel=1e-12)


def test_jitter_and_stragglers_slow_the_clients_own_part() -> None:
    plain = make().client_seconds(WORK, seed=1, round=0)
    served = WORK.server_flops / 1e12
    slow = make(straggler_probability=1.0, straggler_slowdown=3.0).client_seconds(WORK, seed=1, round=0)
    np.testing.assert_allclose(slow - served, 3 * (plain - served), rtol=1e-12)
    jittered = make(jitter=0.5).client_seconds(many(20_000), seed=1, round=0)
    logs = np.log(jittered)
    assert abs(logs.mean()) < 0.02
    assert abs(logs.std() - 0.5) < 0.01
    assert (make(jitter=0.5).client_seconds(many(20_000), seed=1, round=1) != jittered).all()
    stragglers = make(straggler_probability=0.1).client_seconds(many(20_000), seed=1, round=0)
    assert set(stragglers.tolist()) == {1.0, 10.0}
    assert abs((stragglers == 10).mean() - 0.1) < 0.01


def test_classes_get_their_shares_and_clients_keep_theirs() -> None:
    classes = [{**ONE, "name": name, "share": share} for name, share in (("a", 0.2), ("b", 0.5), ("c", 0.3))]
    classes[1]["fault_factor"] = 2.5
    clock = make(classes=classes)
    clients = np.arange(50_000)
    names = clock.device_names(clients, 3)
    for each in classes:
        assert abs((names == each["name"].encode()).mean() - each["share"]) < 0.01
    assert clock.device_names(clients[777:778], 3)[0] == names[777]
    assert (clock.device_names(clients, 4) != names).any()
    assert set(clock.fault_factors(clients, 3)[names == b"b"].tolist()) == {2.5}
    assert clock.largest_fault_factor == 2.5
    assert len(clock.device_names(clients[:0], 3)) == 0


def test_what_does_not_start_takes_no_messages() -> None:
    assert WORK.messages.tolist() == [10, 2]
    assert many(3).messages.tolist() == [0, 0, 0]


@pytest.mark.parametrize("rule", ["phones", "homes", "sites"])
def test_fleets_are_written_out_and_may_be_changed(rule: str) -> None:
    table = resolve({"clock": {"rule": rule}}).tree()["clock"]
    assert sum(each["share"] for each in table["classes"]) == pytest.approx(1)
    assert resolve({"clock": {**table, "classes": [ONE]}}).clock.device_names(np.arange(2), 1).tolist() == [b"only"] * 2


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"rule": "devices"}, "clock.classes = None: must be given"),
        ({"rule": "devices", "classes": []}, "clock.classes = []: "),
        (
            {"rule": "devices", "classes": [{**ONE, "share": 0.9}]},
            "the shares of all classes sum to 0.9; they must sum",
        ),
        ({"rule": "devices", "classes": [{**ONE, "share": 0.5}] * 2}, "two classes have the same name (only, only)"),
        ({"rule": "devices", "classes": [{**ONE, "gflops": 0.0}]}, "clock.classes.0.gflops = 0.0"),
        ({"rule": "devices", "classes": [{**ONE, "name": "a b"}]}, "clock.classes.0.name = 'a b'"),
        ({"rule": "phones", "straggler_probability": 1.5}, "clock.straggler_probability = 1.5"),
        ({"rule": "phones", "deadline_seconds": -1.0}, "clock.deadline_seconds = -1.0"),
        ({"deadline_seconds": 1.0}, "clock.deadline_seconds = 1.0: unknown"),
    ],
)
def test_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve({"clock": table})
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "shape"), [("mlp", (6,)), ("digits-cnn", (1, 8, 8)), ("lenet5", (1, 28, 28))])
def test_the_halves_cost_together_what_the_whole_costs(name: str, shape: tuple[int, ...]) -> None:
    module = models.parse({"name": name}).build(shape, 3)
    for cut in ("none", *cut_points(module)):
        model = split(module, cut, shape)
        halves = count_halves(model)
        assert halves.client + halves.server == training_flops(module, model.trial[:1])
        assert (halves.server == 0) == (cut == "none")


def test_halves_by_hand() -> None:
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    halves = count_halves(split(module, "1", (6,)))
    # Forward, weights; the server half also makes the gradient of the smashed data.
    assert (halves.client, halves.server) == (2 * 2 * 6 * 4, 3 * 2 * 4 * 3)


def test_recurrent_layers_are_counted() -> None:
    module = models.parse({"name": "gru-lm", "hidden": 8}).build((5,), 4)
    halves = count_halves(split(module, "embedding", (5,), target_shape=(5,), vocabulary=4))
    assert halves.client == 0
    whole = training_flops(module, split(module, "none", (5,), target_shape=(5,), vocabulary=4).trial[:1])
    # The first state is zero and wants no gradient: up to a third of one of five positions is saved.
    assert 0.9 * whole < halves.server < whole
