"""Clients cut where their devices allow: what changes (bytes, operations, time) and what does not (the model)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made import small_config, small_world

import hpcfsl
from hpcfsl.config import resolve
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.fates import decide_fates
from hpcfsl.models.operations import count_halves
from hpcfsl.models.split import split

LINK = {"up_mbps": 1.0, "down_mbps": 1.0, "latency_ms": 1.0}
CLOCK = {
    "rule": "devices",
    "classes": [
        {"name": "strong", "share": 0.5, "gflops": 1.0, **LINK},
        {"name": "weak", "share": 0.5, "gflops": 0.001, **LINK},
    ],
}
MODEL = {"name": "mlp", "hidden": [8, 5], "cut": "relu2"}
CUTS = [{"device_class": "weak", "cut": "linear1"}]
SPLIT = {"clock": CLOCK, "model": MODEL, "protocol": {"name": "splitfed-v1", "device_cuts": CUTS}}


def test_the_model_is_the_same_and_bytes_and_time_are_not(tmp_path: Path) -> None:
    runs = []
    for name, cuts in (("own", CUTS), ("one", [])):
        sections = {**SPLIT, "protocol": {"name": "splitfed-v1", "device_cuts": cuts}}
        tree = small_config(**sections).tree()
        tree["run"]["rounds"] = 2
        runs.append(hpcfsl.run(tree, out=tmp_path / name))
    own, one = (run.table("rounds") for run in runs)
    assert own["model_hash"].tolist() == one["model_hash"].tolist()
    assert own["bytes_up"].tolist() != one["bytes_up"].tolist()
    clients = runs[0].table("clients")
    assert set(clients["device_class"]) == {b"strong", b"weak"}
    wanted = np.where(clients["device_class"] == b"weak", b"linear1", b"relu2")
    assert clients["cut"].tolist() == wanted.tolist()
    assert set(runs[1].table("clients")["cut"]) == {b"relu2"}


def test_operations_are_those_of_the_clients_own_halves() -> None:
    world = small_world(small_config(**SPLIT))
    clients = np.arange(world.population.num_clients)
    weak = world.config.clock.device_names(clients, world.config.run.seed) == b"weak"
    assert 0 < weak.sum() < len(weak)
    at_client, at_server = world.cuts.sample_operations(clients)
    for cut, chosen in (("linear1", weak), ("relu2", ~weak)):
        halves = count_halves(split(world.model.whole, cut, (6,)))
        assert set(at_client[chosen]) == {halves.client}
        assert set(at_server[chosen]) == {halves.server}


def test_a_weak_device_with_fewer_layers_is_done_sooner() -> None:
    fast, slow = (
        decide_fates(small_world(small_config(**{**SPLIT, "protocol": protocol})), np.arange(12), 0)
        for protocol in (SPLIT["protocol"], {"name": "splitfed-v1"})
    )
    devices = resolve({"clock": CLOCK}).clock.device_names(np.arange(12), 1)
    assert (fast.seconds[devices == b"weak"] < slow.seconds[devices == b"weak"]).all()
    assert (fast.seconds[devices == b"strong"] == slow.seconds[devices == b"strong"]).all()


@pytest.mark.parametrize("protocol", ["fedavg", "splitfed-v1"])
def test_without_cuts_of_their_own_all_have_the_models(protocol: str) -> None:
    world = small_world(small_config(protocol={"name": protocol}))
    assert set(world.cuts.names(np.arange(5))) == {b"relu1" if world.config.protocol.cuts else b"none"}
    assert world.cuts.models == (world.model,)


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"compression": {"rule": "fp16"}}, "compression.rule = 'fp16' needs the same halves"),
        ({"training": {"server_half_learning_rate": 0.5}}, "training.server_half_learning_rate = 0.5 needs the same"),
        ({"score": {"half": "server"}}, "score.half = 'server' needs the same halves"),
        ({"protocol": {**SPLIT["protocol"], "personal": ["linear1"]}}, "protocol.personal = .* needs the same halves"),
        ({"model": {**MODEL, "cut": "none"}}, "set model.cut to a layer"),
    ],
    ids=["compression", "rate", "score", "personal", "no-cut"],
)
def test_what_needs_the_same_halves_is_refused(sections: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"protocol\.device_cuts = \['weak'\]: .*{text}"):
        resolve({**SPLIT, **sections})


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"clock": {"rule": "none"}}, r"protocol\.device_cuts\.device_class = 'weak': there are no device classes"),
        ({"clock": {"rule": "phones"}}, r"protocol\.device_cuts\.device_class = 'weak': unknown; .*slow-phone"),
        (
            {"protocol": {"name": "splitfed-v1", "device_cuts": [{"device_class": "weak", "cut": "linear9"}]}},
            r"protocol\.device_cuts\.cut = 'linear9': unknown; .*linear1",
        ),
    ],
    ids=["no-clock", "class", "layer"],
)
def test_unknown_classes_and_layers_are_refused(sections: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        small_world(small_config(**{**SPLIT, **sections}))


@pytest.mark.parametrize(
    ("cuts", "text"),
    [
        ([{"device_class": "weak", "cut": "none"}], "every client needs a server half"),
        ([*CUTS, *CUTS], "class 'weak' has two cuts"),
    ],
    ids=["none", "twice"],
)
def test_cuts_that_cannot_be_meant_are_refused(cuts: list[dict[str, str]], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        resolve({"protocol": {"name": "splitfed-v1", "device_cuts": cuts}})
