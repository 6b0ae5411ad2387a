from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from hpcfsl.models import models
from hpcfsl.models.split import split
from hpcfsl.training.protocols import Protocol, protocols

SAMPLES = np.array([5, 1, 120])
FLOAT, LABEL = 4, 8


def test_the_registered_protocols() -> None:
    names = ["fedavg", "parallel", "splitfed-v1", "splitfed-v2", "splitfed-v3", "u-shaped"]
    assert protocols.names() == names


@pytest.mark.parametrize("epochs", [1, 3])
def test_splitfed_v1_bytes_counted_by_hand(epochs: int) -> None:
    # digits-cnn cut after relu1: 16 maps of 8 x 8 go up and their gradients down; the client half is conv1, that is
    # 16 x 1 x 3 x 3 weights and 16 biases.
    model = split(models.parse({"name": "digits-cnn"}).build((1, 8, 8), 10), "relu1", (1, 8, 8))
    protocol = protocols.parse({"name": "splitfed-v1"})
    assert protocol.cuts
    found = protocol.wire_bytes(model, SAMPLES, epochs)
    for row, samples in enumerate([5, 1, 120]):
        smashed = samples * epochs * 16 * 8 * 8 * FLOAT
        labels = samples * epochs * LABEL
        half = (16 * 1 * 3 * 3 + 16) * FLOAT
        assert found.smashed_up[row] == smashed
        assert found.gradients_down[row] == smashed
        assert found.labels_up[row] == labels
        assert found.model_up[row] == found.model_down[row] == half
        assert found.up[row] == smashed + labels + half
        assert found.down[row] == smashed + half
    assert protocol.across_bytes(model) == 38_282 * FLOAT


@pytest.mark.parametrize("cut", ["linear1", "relu1", "relu2"])
def test_splitfed_v1_bytes_against_what_the_halves_really_pass(cut: str) -> None:
    import torch

    module = models.parse({"name": "mlp"}).build((6,), 3)
    model = split(module, cut, (6,))
    passed = model.client_half(torch.zeros(7, 6))
    found = protocols.parse({"name": "splitfed-v1"}).wire_bytes(model, np.array([7]), 2)
    assert found.smashed_up[0] == 2 * passed.numel() * passed.element_size()
    parameters = list(model.client_half.parameters())
    assert found.model_up[0] == sum(each.numel() * each.element_size() for each in parameters)
    assert found.labels_up[0] == 2 * 7 * torch.zeros(1, dtype=torch.int64).element_size()


def test_a_class_at_each_position_is_a_label_at_each_position() -> None:
    module = models.parse({"name": "gru-lm", "hidden": 5}).build((9,), 7)
    model = split(module, "gru", (9,), target_shape=(9,), vocabulary=7)
    found = protocols.parse({"name": "splitfed-v1"}).wire_bytes(model, SAMPLES, 1)
    assert found.labels_up.tolist() == (SAMPLES * 9 * LABEL).tolist()
    assert found.smashed_up.tolist() == (SAMPLES * 9 * 5 * FLOAT).tolist()


@pytest.mark.parametrize("name", ["fedavg", "splitfed-v1"])
def test_a_model_that_is_not_cut_is_sent_whole_and_nothing_else(name: str) -> None:
    model = split(nn.Sequential(nn.Linear(6, 3)), "none", (6,))
    protocol = protocols.parse({"name": name})
    assert protocol.cuts == (name != "fedavg")
    found = protocol.wire_bytes(model, SAMPLES, 4)
    whole = (6 * 3 + 3) * FLOAT
    assert found.up.tolist() == found.down.tolist() == [whole] * 3
    assert found.smashed_up.tolist() == found.gradients_down.tolist() == found.labels_up.tolist() == [0] * 3
    assert protocol.across_bytes(model) == whole


def test_a_protocol_without_its_methods_says_so() -> None:
    rule = Protocol(name="nameless")
    with pytest.raises(AssertionError, match="says whether it cuts"):
        _ = rule.cuts
    with pytest.raises(AssertionError, match="accounts its bytes"):
        rule.wire_bytes(split(nn.Sequential(nn.Linear(6, 3)), "none", (6,)), SAMPLES, 1)
