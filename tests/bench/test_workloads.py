from __future__ import annotations

import ast
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from hpcfsl.bench.contenders import PEER_SCRIPTS
from hpcfsl.bench.request import Request, configuration, read_request
from hpcfsl.bench.workloads import WORKLOADS, find_workload
from hpcfsl.errors import ConfigError, UserError
from hpcfsl.models.split import split

SHAPES = {"mlp": (64,), "lenet": (1, 28, 28), "cifar": (3, 32, 32), "gru": (80,)}


@pytest.fixture(scope="module")
def common() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers_common", PEER_SCRIPTS / "common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("preset", ["averaging", "hardened"])
def test_every_workload_is_a_configuration(name: str, preset: str) -> None:
    config = configuration(Request(workload=name), preset)
    workload = find_workload(name)
    assert config.participation.draw(workload.population, 0, 0).size == workload.cohort
    assert config.perturbation.rule == ("gaussian" if preset == "hardened" else "none")
    assert config.run.preset == preset


@pytest.mark.parametrize("name", SHAPES)
def test_peers_train_the_same_model(name: str, common: ModuleType) -> None:
    theirs = common.build_model(name).eval()
    classes = 90 if name == "gru" else 10
    ours = configuration(Request(workload=name)).model.build(SHAPES[name], classes).eval()
    shapes = [tuple(parameter.shape) for parameter in ours.parameters()]
    assert shapes == [tuple(parameter.shape) for parameter in theirs.parameters()]
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
        inputs = torch.randint(0, 90, (2, 80)) if name == "gru" else torch.randn(2, *SHAPES[name])
        torch.testing.assert_close(theirs(inputs), ours(inputs))
    dropped = [layer.p for layer in theirs.modules() if isinstance(layer, torch.nn.Dropout)]
    assert dropped == [layer.p for layer in ours.modules() if isinstance(layer, torch.nn.Dropout)]


@pytest.mark.parametrize("name", SHAPES)
def test_peers_have_the_same_samples(name: str, common: ModuleType) -> None:
    workload = replace(find_workload(name), population=3)
    tree = {**json.loads(Request(workload=name).to_peer_json()), "population": workload.population}
    inputs, targets = common.make_clients(tree)
    assert inputs.shape == (3, 50, *SHAPES[name])
    assert targets.shape == ((3, 50, 80) if name == "gru" else (3, 50))
    assert inputs.dtype == (np.int64 if name == "gru" else np.float32)
    logits = common.build_model(name)(torch.from_numpy(inputs[0, :10]))
    assert common.mean_loss(logits, torch.from_numpy(targets[0, :10])).item() > 0


def test_their_clock_starts_after_the_warm_up(common: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    clock = common.Clock({"warmup": 2, "seconds": 0.0, "rounds": 2}, root=True)
    assert [clock.round_done() for _ in range(4)] == [False, False, False, True]
    assert len(clock.marks) == 3
    assert json.loads(capsys.readouterr().out) == {"event": "start"}


@pytest.mark.parametrize("path", sorted(PEER_SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_peers_import_nothing_of_ours(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not [name for name in names if name.startswith("hpcfsl")]


def test_a_request_comes_back_and_settings_are_applied() -> None:
    request = Request(workload="mlp", cohort=8, overrides=("training.momentum=0.5",), started=3.0)
    assert read_request(request.to_json()) == request
    config = configuration(request)
    assert config.training.momentum == 0.5
    assert config.participation.draw(1000, 0, 0).size == 8
    told = json.loads(request.to_peer_json())
    assert (told["cohort"], told["samples"], told["batch"], told["learning_rate"]) == (8, 50, 10, 0.1)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"--workload 'lent': unknown; did you mean 'lenet'\?"):
        find_workload("lent")
    with pytest.raises(ConfigError, match=r"training\.executor"):
        configuration(Request(workload="mlp", overrides=("training.executor=none",)))


def test_split_takes_every_workload_apart() -> None:
    config = configuration(Request(workload="digits"))
    model = split(config.model.build((1, 8, 8), 10), config.model.cut, (1, 8, 8))
    assert config.protocol.cuts
    assert model.cut == "relu1"
