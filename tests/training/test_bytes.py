"""Accounted bytes against bytes that were counted on tensors which really crossed (`support.hand_count`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.hand_count import KINDS, Coder, as_bytes, as_halves, as_largest, as_they_are, count_client
from support.made import small_config, small_world
from support.model_cases import CASES, Case, built, split_for

from hpcfsl.fates import decide_fates
from hpcfsl.faults import Fault
from hpcfsl.models.split import SplitModel, cut_points, split
from hpcfsl.training.compression import compressions
from hpcfsl.training.protocols import Protocol, WireBytes, protocols
from hpcfsl.world import World

PROTOCOLS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "splitfed-v1": {"name": "splitfed-v1"},
    "splitfed-v2": {"name": "splitfed-v2"},
    "splitfed-v2-screened": {"name": "splitfed-v2", "undo": "screen"},
    "splitfed-v3": {"name": "splitfed-v3"},
    "parallel": {"name": "parallel"},
    "u-shaped": {"name": "u-shaped", "undo": "replay"},
    "u-shaped-screened": {"name": "u-shaped", "undo": "screen"},
}
MODELS = ("digits-cnn", "mlp-numbers", "lenet5-28", "speech-gru-last", "gru-lm", "sentence-classifier", "tcn")
COMPRESSIONS: dict[str, tuple[dict[str, Any], Coder, Coder]] = {
    "fp16": ({"rule": "fp16"}, as_halves, as_halves),
    "int8": ({"rule": "int8"}, as_bytes, as_bytes),
    "int8-up": ({"rule": "int8", "gradients": False}, as_bytes, as_they_are),
    "top-k": ({"rule": "top-k", "share": 0.1}, as_largest(0.1), as_largest(0.1, places=False)),
    "top-k-up": ({"rule": "top-k", "share": 0.5, "gradients": False}, as_largest(0.5), as_they_are),
    "top-k-all": ({"rule": "top-k", "share": 1.0}, as_largest(1.0), as_they_are),
}


def model_for(protocol: Protocol, case: Case, name: str) -> SplitModel:
    module = built(name)
    cut = cut_points(module)[0] if protocol.cuts else "none"
    return split_for(module, cut, case.samples, tail=protocol.second_cut)


def by_kind(wire: WireBytes, row: int) -> dict[str, int]:
    return {kind: int(getattr(wire, kind)[row]) for kind in KINDS}


@pytest.mark.parametrize("protocol_name", PROTOCOLS)
@pytest.mark.parametrize("name", MODELS)
def test_every_protocol_and_model(name: str, protocol_name: str) -> None:
    protocol, case = protocols.parse(PROTOCOLS[protocol_name]), CASES[name]
    model = model_for(protocol, case, name)
    found = protocol.wire_bytes(model, np.array([7, 3]), 2)
    for row, size in enumerate((7, 3)):
        inputs, targets = case.batch(size)
        wanted = count_client(
            model,
            inputs,
            targets,
            batch=3,
            epochs=2,
            cut=protocol.cuts,
            kept=protocol.personal_names(model.layout),
            screened=protocol_name.endswith("screened"),
        )
        assert by_kind(found, row) == wanted
        up = ("smashed_up", "labels_up", "output_gradients_up", "model_up")
        assert found.up[row] == sum(wanted[kind] for kind in up)
        assert found.down[row] == sum(wanted.values()) - found.up[row]


@pytest.mark.parametrize("rule", COMPRESSIONS)
@pytest.mark.parametrize("protocol_name", ["splitfed-v1", "parallel", "u-shaped"])
@pytest.mark.parametrize("name", ["digits-cnn", "gru-lm", "mlp-numbers"])
def test_every_compression(name: str, protocol_name: str, rule: str) -> None:
    tree, up, down = COMPRESSIONS[rule]
    protocol, case = protocols.parse(PROTOCOLS[protocol_name]), CASES[name]
    model = model_for(protocol, case, name)
    inputs, targets = case.batch(5)
    wanted = count_client(model, inputs, targets, batch=2, epochs=1, up=up, down=down)
    coded = replace(model, link=compressions.parse(tree).link())
    assert by_kind(protocol.wire_bytes(coded, np.array([5]), 1), 0) == wanted


def world_of(**sections: Any) -> World:
    return small_world(small_config(**{"training": {"batch_size": 4, "local_epochs": 2}, **sections}))


def counted(world: World, model: SplitModel, client: int, fault: int, steps: int) -> dict[str, int]:
    rows = world.population.train_rows_of(np.array([client]))
    inputs, targets = (torch.from_numpy(values) for values in (world.feed.inputs(rows), world.feed.targets(rows)))
    return count_client(
        model,
        inputs,
        targets,
        batch=world.config.training.batch_size,
        epochs=world.config.training.local_epochs,
        steps=steps,
        starts=fault != Fault.DROPPED_BEFORE,
        uploads=fault not in (Fault.DROPPED_BEFORE, Fault.DROPPED_DURING),
        cut=world.config.protocol.cuts,
        screened=world.config.screening.compares,
    )


def rounds(world: World, number: int) -> Iterator[tuple[int, int, int, dict[str, int]]]:
    """Yield client, fault, steps and accounted bytes of every client of some rounds."""
    clients = np.arange(world.population.num_clients)
    for round in range(number):
        fates = decide_fates(world, clients, round)
        for row, client in enumerate(clients.tolist()):
            yield client, int(fates.faults[row]), int(fates.steps[row]), by_kind(fates.wire, row)


@pytest.mark.parametrize("protocol", ["fedavg", "splitfed-v1", "parallel", "splitfed-v2-screened", "u-shaped-screened"])
def test_clients_that_leave_send_what_they_sent_until_then(protocol: str) -> None:
    faults = {"rule": "random", "dropout_before": 0.2, "dropout_during": 0.5, "dropout_after": 0.2}
    screening = {"rule": "distance" if protocol.endswith("screened") else "none"}
    model = {"name": "mlp", "hidden": [8, 5]}
    world = world_of(faults=faults, protocol=PROTOCOLS[protocol], screening=screening, model=model)
    seen = set()
    for client, fault, steps, found in rounds(world, 4):
        assert found == counted(world, world.model, client, fault, steps)
        seen.add(fault)
    assert seen >= {Fault.DROPPED_BEFORE, Fault.DROPPED_DURING, Fault.DROPPED_AFTER}


CLASS = {"gflops": 1.0, "up_mbps": 1.0, "down_mbps": 1.0}
CLOCK = {
    "rule": "devices",
    "classes": [
        {"name": "strong", "share": 0.4, **CLASS},
        {"name": "weak", "share": 0.3, **CLASS},
        {"name": "weakest", "share": 0.3, **CLASS},
    ],
}
CUTS = [{"device_class": "weakest", "cut": "linear1"}, {"device_class": "weak", "cut": "relu1"}]


def test_every_client_at_the_cut_of_its_device() -> None:
    world = world_of(
        clock=CLOCK,
        model={"name": "mlp", "hidden": [8, 5], "cut": "linear2"},
        protocol={"name": "splitfed-v1", "device_cuts": CUTS},
        faults={"rule": "random", "dropout_during": 0.3},
    )
    cuts = {b"strong": "linear2", b"weak": "relu1", b"weakest": "linear1"}
    clients = np.arange(world.population.num_clients)
    devices = world.config.clock.device_names(clients, world.config.run.seed)
    assert set(devices) == set(cuts)
    assert world.cuts.names(clients).tolist() == [cuts[device].encode() for device in devices]
    models = {cut: split(world.model.whole, cut, (6,)) for cut in cuts.values()}
    for client, fault, steps, found in rounds(world, 3):
        assert found == counted(world, models[cuts[devices[client]]], client, fault, steps)
